"""The edge: one file per technology."""
