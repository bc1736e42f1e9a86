"""Shards, the order they are read in, and the stream of decoded batches that training consumes."""
