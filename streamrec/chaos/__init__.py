"""Killing things on purpose, and an oracle that says whether anything was lost, doubled or changed by it."""
