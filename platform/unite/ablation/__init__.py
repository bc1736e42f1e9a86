"""Ablations without a cluster: trials of a sweep, their costs and results, figures and verdicts."""
