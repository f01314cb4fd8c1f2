"""`streamrec worker`: runs one worker of the pipeline."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from streamrec.cli.addresses import resolved_settings
from streamrec.errors import UsageError

WORKERS = ("interests", "trainer", "recall", "retention", "monitor")


def worker(name: Annotated[str, typer.Argument(help=f"The worker: {', '.join(WORKERS)}.")]) -> None:
    """Run one worker until SIGTERM or Ctrl-C.

    Processes of the same worker share its partitions; one `trainer` is active, others stand by.

    Example: streamrec worker interests
    """
    if name not in WORKERS:
        raise UsageError(f"unknown worker {name!r}; choose from {', '.join(WORKERS)}")
    import_module(f"workers.{name}").main(resolved_settings())
