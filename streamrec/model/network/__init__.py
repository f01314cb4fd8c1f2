"""The sequence model, and how one step trains it."""
