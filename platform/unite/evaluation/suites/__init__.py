"""Suites: one file each, and the registry that says which domain has which."""

from unite.evaluation.suites import images as images
from unite.evaluation.suites import molecules as molecules
from unite.evaluation.suites.registry import SHARED, Entry, all_suites, meant, suites_for

__all__ = ["SHARED", "Entry", "all_suites", "meant", "suites_for"]
