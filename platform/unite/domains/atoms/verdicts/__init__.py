"""Verdicts on one structure: stability, composition, and those of chemistry packages (METHOD 7)."""
