"""Molecules and crystals: samples that are sets of atoms (METHOD 7)."""
