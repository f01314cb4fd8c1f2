"""Recall channels: which items may be in a list."""
