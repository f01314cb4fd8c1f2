"""Console for the progress of starting a stack, shared by servers that start concurrently."""

from __future__ import annotations

from rich.console import Console

TERMINAL = Console(stderr=True)
