"""Batch jobs on this host: services started, one job run to its end, every service cleaned up, whoever dies meanwhile."""
