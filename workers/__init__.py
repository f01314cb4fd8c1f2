"""The Faust apps, as thin as they can be: each composes adapters and a use case."""
