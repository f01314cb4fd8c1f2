"""How long a run waits for whatever should happen."""

PATIENCE_S = 600.0
"""Generous, for slow machines: while all works it costs nothing."""
