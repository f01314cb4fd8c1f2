"""Message types: JSON on Kafka, published as JSON Schemas in `schemas/`."""
