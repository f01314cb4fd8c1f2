"""streamrec: events in on Kafka, fresh top-K lists out in milliseconds."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from streamrec import __version__, logs
from streamrec.cli.last_resort import OutputClosedError, check_arguments, claim_standard_streams, fail, last_resort
from streamrec.errors import UsageError
from streamrec.settings import Settings

COMMANDS = {
    "demo": ("streamrec.cli.demo:demo", "Demonstrate the whole pipeline on real servers in two minutes."),
    "up": ("streamrec.cli.up:up", "Run all servers and workers on this machine until Ctrl-C."),
    "replay": ("streamrec.cli.replay:replay", "Play a file of past events into Kafka."),
    "topk": ("streamrec.cli.topk:topk", "Print a user's latest list and the reason for each item."),
    "lists": (
        "streamrec.cli.lists:app",
        "Show which stored lists wait to be rebuilt, or rebuild outdated ones.",
    ),
    "status": ("streamrec.cli.status:status", "Check pipeline health; exits non-zero when it is behind."),
    "lag": ("streamrec.cli.lag:lag", "Show consumer lag per worker and partition."),
    "retention": ("streamrec.cli.retention:retention", "Show user retention by cohort and by arm."),
    "model": ("streamrec.cli.model:app", "List model versions, or roll back the model."),
    "topics": ("streamrec.cli.topics:app", "List topics, or create missing ones."),
    "dlq": ("streamrec.cli.dlq:app", "List, show or replay dead letters."),
    "worker": ("streamrec.cli.worker:worker", "Run one worker until SIGTERM or Ctrl-C."),
    "migrate": ("streamrec.cli.migrate:migrate_command", "Migrate the PostgreSQL schema to this release."),
    "adopt": ("streamrec.cli.adopt:adopt", "Register the configured stores with this installation."),
    "eval": ("streamrec.cli.evaluation:eval_app", "Evaluate ranking quality offline, on past events."),
    "bench": ("streamrec.cli.benchmarks:bench_app", "Benchmark the pipeline on this machine."),
    "chaos": ("streamrec.cli.chaos:app", "Inject faults, and verify that nothing is lost or duplicated."),
}
"""Every command, its import path and its help line, in the order of `streamrec --help`."""


class LazyGroup(TyperGroup):
    """Imports the module of a command when the command is run.

    So a worker does not load the file formats of `replay` or the servers of `demo`, and help is immediate.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  # the type is private to typer
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002  # the types are private to typer
        """Return what help needs about a command, or `None` if there is no command of that name."""
        if cmd_name not in COMMANDS:
            return None
        shown = typer.Typer(add_completion=False)
        shown.command(help=COMMANDS[cmd_name][1])(root)
        return _named(cmd_name, shown)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  # the types are private to typer
        """Return the command that is to be run."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            if "--help" not in rest:
                Settings.check_environment()
            command = load(name)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # the types are private to typer
        """Run the command; click would exit silently on a broken pipe."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise OutputClosedError from error


def load(name: str) -> Any:  # noqa: ANN401  # the type is private to typer
    """Import a command."""
    module, attribute = COMMANDS[name][0].split(":")
    try:
        target = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name} needs {error.name}, which comes with: pip install 'streamrec[local]'") from error
    if isinstance(target, typer.Typer):
        return _named(name, target)
    wrapped = typer.Typer(add_completion=False)
    wrapped.command()(target)
    return _named(name, wrapped)


def _named(name: str, target: typer.Typer) -> Any:  # noqa: ANN401  # the type is private to typer
    target.rich_markup_mode = "markdown"  # which fills the lines of a paragraph
    command = typer.main.get_command(target)
    command.name = name
    return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"streamrec {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # its callback prints it
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """streamrec: events in on Kafka, fresh top-K lists out in milliseconds."""


def main(arguments: list[str] | None = None) -> None:
    """Run `streamrec`: an error is one line on standard error, with exit code 2 for usage errors."""
    # an unavailable broker raises our own error; only workers, which configure logging, want librdkafka's messages
    logging.getLogger("librdkafka").addHandler(logging.NullHandler())
    with last_resort():
        claim_standard_streams()
        logs.configure_command()
        given = sys.argv[1:] if arguments is None else arguments
        check_arguments(given)
        try:
            code = app(given, prog_name="streamrec", standalone_mode=False)
        except typer.TyperException as error:
            fail(error.format_message(), error.exit_code)
        except typer.Abort:
            fail("aborted", 1)
    # a command that returns nothing has succeeded
    sys.exit(code or 0)
