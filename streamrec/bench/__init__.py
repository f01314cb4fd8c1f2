"""Benchmarks of the running pipeline: how fast, and where the time goes."""
