"""Error of metrics; without torch, so that those who only catch it import in a moment."""


class MetricError(ValueError):
    """Input from which a metric cannot be computed; the message names it and the fix."""
