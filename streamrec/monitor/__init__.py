"""Watching the pipeline from outside: lag, freshness, learning, retention; a page, metrics, and whether all is well."""
