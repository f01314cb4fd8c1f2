"""Monitoring the pipeline from outside: lag, freshness, training, retention; dashboard, metrics and health."""
