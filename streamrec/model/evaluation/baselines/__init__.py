"""What the sequence model is compared with: each learns from every event at once, and ranks all items."""
