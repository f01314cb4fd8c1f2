"""streamrec: a streaming, event-driven recommender."""

__version__ = "0.1.0"
