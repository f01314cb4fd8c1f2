"""Kafka, Valkey and PostgreSQL on this machine, from Python packages alone."""
