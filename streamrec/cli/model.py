"""`streamrec model`: model versions and rollback."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from streamrec.adapters.kafka.model_versions import read_model_versions, roll_back
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import DataTable, Json, console, print_json
from streamrec.contracts.model_version import ModelVersions
from streamrec.errors import StreamrecError, UsageError

ANSWER_WITHIN_S = 60.0

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List model versions, or roll back the model.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the versions that the trainer keeps, oldest first, and those that were refused or rolled back.

    Versions with a checkpoint can be restored. Needs only Kafka.

    Examples: streamrec model list; streamrec model list --json
    """
    versions = read_model_versions(resolved_settings().require_kafka())
    if versions is None:
        raise UsageError("no versions yet: the first one is kept with the trainer's first checkpoint")
    if as_json:
        print_json(versions)
        return
    console().print(_table(versions))


@app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="The version: a name that `model list` prints with a checkpoint.")],
    as_json: Json = False,
) -> None:
    """Roll back to a version that the trainer keeps; lists follow within seconds.

    The trainer continues from there as after a restart. Events learned since are counted again, but not trained on.

    Example: streamrec model rollback 3fa9c1d2-120
    """
    kafka = resolved_settings().require_kafka()
    versions = read_model_versions(kafka)
    known = {version.name: version for version in versions.versions} if versions else {}
    if name not in known:
        raise UsageError(f"unknown version {name}; see `streamrec model list`")
    if not known[name].checkpoint:
        raise UsageError(f"{name} no longer has a checkpoint; see `streamrec model list`")
    made = roll_back(kafka, name, within_s=ANSWER_WITHIN_S)
    if made is None:
        raise StreamrecError(
            f"no answer in {ANSWER_WITHIN_S:.0f} s: the trainer rolls back to {name} as soon as it runs, if it still "
            "has the checkpoint"
        )
    if as_json:
        print_json(made)
    else:
        console().print(f"rolled back to {name}; training continues as {made.name}")


def _table(versions: ModelVersions) -> DataTable:
    table = DataTable("version", "made at", title=_title(versions), title_justify="left")
    for name in ("events", "loss"):
        table.add_column(name, justify="right")
    for name in ("status", "checkpoint", "because"):
        table.add_column(name)
    for version in versions.versions:
        because = version.because or (f"rolled back to {version.went_on_from}" if version.went_on_from else "")
        table.add_row(
            version.name,
            datetime.fromtimestamp(version.made_at_ms / 1_000, UTC).isoformat(" ", "seconds"),
            f"{version.events:,}",
            "" if version.loss is None else f"{version.loss:.3f}",
            version.status,
            str(version.checkpoint or ""),
            because,
        )
    return table


def _title(versions: ModelVersions) -> str:
    return f"{versions.refused} refused, {versions.rolled_back} rolled back, {versions.drifts} drifts"
