"""Names that extractors are asked for by."""

AUTO = "auto"
SMALL = "small"
"""Name of the small extractor that is fitted on the run's own training data."""
INCEPTION = "inception-v3-compat"
EXTRACTORS = (INCEPTION, "pixels")
"""Names of extractors that are not fitted."""
NAMED = (AUTO, "inception", SMALL, *EXTRACTORS)
"""All names; anything else is the folder of a fitted one."""
