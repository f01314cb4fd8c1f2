"""From candidates to lists: a serving version, its features and its blend."""
