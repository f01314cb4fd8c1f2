"""Fault injection, and an oracle that verifies that nothing was lost, duplicated or changed."""
