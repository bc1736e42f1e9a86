"""Checkpoints: the training store, the released layout, loading and export."""
