"""Molecules and crystals, as they are distributed, into shards."""
