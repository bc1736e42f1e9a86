"""The paper's equations: addressed randomness, path, time, guidance and solvers."""

NOISE_VERSION = "2"
"""Version of the values that keys give (`random.py`): what drew by another one is not continued
unnoticed. In 1 the second halves of the words followed all the first ones, so that values depended
on their number; a single value per key is the same in both."""
