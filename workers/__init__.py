"""The Faust apps: each composes adapters and a use case."""
