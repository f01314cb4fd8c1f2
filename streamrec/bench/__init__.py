"""Benchmarks of the running pipeline."""
