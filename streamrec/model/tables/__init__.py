"""What is counted, not learned: items, their popularity, neighbours and content, and a sample of sequences."""
