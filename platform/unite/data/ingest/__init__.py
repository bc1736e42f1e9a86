"""Conversion of images, as they are distributed, into shards: sources, plan, writing."""
