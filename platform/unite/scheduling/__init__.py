"""Scheduled evaluation: each checkpoint and suite gets its result once, as a job on a cluster."""
