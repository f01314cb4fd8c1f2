"""Adapters to files and servers, by technology."""
