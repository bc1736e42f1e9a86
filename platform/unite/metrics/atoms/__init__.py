"""Metrics of molecules and crystals over structures (METHOD 7)."""
