"""The trainer: from micro-batches to checked versions and checkpoints."""
