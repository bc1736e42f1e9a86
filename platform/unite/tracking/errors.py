"""The error of all dealings with MLflow."""


class TrackingError(ValueError):
    """MLflow cannot be used as asked; the message names the place and the fix."""
