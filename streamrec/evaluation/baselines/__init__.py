"""Baselines: each learns from every event immediately, and ranks all items."""
