"""How commands print: figures and tables on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")]


def print_json(document: Any) -> None:  # noqa: ANN401  # anything that msgspec encodes
    """Print a JSON document, indented, alone on standard output."""
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.write(encoded.decode() + "\n")
    sys.stdout.flush()


def console() -> Console:
    """Return a console on standard output."""
    return Console(soft_wrap=False)


def progress_bar() -> Progress:
    """Return a progress bar on standard error with rate and time left; it is silent where that is no terminal."""
    on_terminal = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=on_terminal,
        disable=not on_terminal.is_terminal,
    )
