"""The paper's equations: addressed randomness, path, time, guidance and solvers."""
