"""Judging the model on streams of events."""
