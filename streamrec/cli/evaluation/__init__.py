"""`streamrec eval`: offline evaluation of ranking quality."""

from __future__ import annotations

import typer

from streamrec.cli.evaluation.ablation import ablation
from streamrec.cli.evaluation.incremental import incremental
from streamrec.cli.evaluation.leave_one_out import leave_one_out
from streamrec.cli.evaluation.prequential import prequential
from streamrec.cli.evaluation.tune import tune

eval_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Evaluate ranking quality offline, on past events."
)
eval_app.command()(prequential)
eval_app.command()(incremental)
eval_app.command()(leave_one_out)
eval_app.command()(ablation)
eval_app.command()(tune)


@eval_app.callback()
def root() -> None:
    """Evaluate the model on past events."""
