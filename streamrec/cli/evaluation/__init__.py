"""`streamrec eval`: how good the lists are, on past events."""

from __future__ import annotations

import typer

from streamrec.cli.evaluation.prequential import prequential

eval_app = typer.Typer(no_args_is_help=True, help=__doc__)
eval_app.command()(prequential)


@eval_app.callback()
def root() -> None:
    """Judge the model on past events."""
