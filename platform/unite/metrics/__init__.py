"""Figures of a model: fidelity, reconstruction, and the analyses of the paper's Section 4."""
