"""The domain: standard library only, pure (no clock, no randomness, no I/O)."""
