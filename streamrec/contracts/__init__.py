"""The messages on the wire: typed here once, JSON on Kafka, published as JSON Schemas in `schemas/`."""
