"""`streamrec worker`: runs one worker of the pipeline."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from streamrec.cli.addresses import resolved_settings
from streamrec.errors import UsageError

WORKERS = ("interests", "trainer", "recall", "retention", "monitor")


def worker(name: Annotated[str, typer.Argument(help=f"Which one: {', '.join(WORKERS)}.")]) -> None:
    """Run one worker until SIGTERM or Ctrl-C.

    Start as many processes of a worker as there are partitions to share; of `trainer` one is active, others stand by.

    Example: streamrec worker interests
    """
    if name not in WORKERS:
        raise UsageError(f"no worker is called {name!r}; there are {', '.join(WORKERS)}")
    import_module(f"workers.{name}").main(resolved_settings())
