"""The report: what there is of an experiment, as one self-contained HTML page."""
