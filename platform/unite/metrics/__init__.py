"""Figures of a model: fidelity, reconstruction, and what the paper analyses in its Section 4."""
