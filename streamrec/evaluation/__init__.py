"""Offline evaluation of the model."""
