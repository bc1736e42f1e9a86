"""Options of `dashboards/build.py`."""

from __future__ import annotations

from dataclasses import dataclass

from unite.config.schema import TrackingConfig


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Build the report of an experiment."""

    experiment: str = TrackingConfig().experiment
    """MLflow experiment."""
    out: str = "report.html"
    """File or s3:// URI to write; an old page is replaced once the new one is complete."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    uri: str = ""
    """Tracking URI; empty = MLFLOW_TRACKING_URI, else sqlite in the storage."""
