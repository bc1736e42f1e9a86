"""Samplers, with one seed per sample, and the pictures and files made of the samples."""
