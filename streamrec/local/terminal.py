"""Where starting a stack shows its progress: servers start at the same time, and their displays share one terminal."""

from __future__ import annotations

from rich.console import Console

TERMINAL = Console(stderr=True)
