"""streamrec: events in on Kafka, fresh top-K lists out in milliseconds."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperGroup

from streamrec.errors import SettingsError, StreamrecError, UsageError

COMMANDS = {
    "demo": "streamrec.cli.demo:demo",
    "up": "streamrec.cli.up:up",
    "replay": "streamrec.cli.replay:replay",
    "topk": "streamrec.cli.topk:topk",
    "lag": "streamrec.cli.lag:lag",
    "retention": "streamrec.cli.retention:retention",
    "topics": "streamrec.cli.topics:app",
    "dlq": "streamrec.cli.dlq:app",
    "worker": "streamrec.cli.worker:worker",
    "migrate": "streamrec.cli.migrate:migrate_command",
    "eval": "streamrec.cli.evaluate:eval_app",
}
"""Every command and where it is written, in the order of `streamrec --help`."""


class LazyGroup(TyperGroup):
    """Imports the module of a command when the command is asked for.

    A worker then pays neither for the file formats of `replay` nor for the servers of `demo`.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  # the type is private to typer
        """Return the names of all commands."""
        return [name for name, target in COMMANDS.items() if find_spec(target.split(":")[0])]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002  # the types are private to typer
        """Return a command, or `None` if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        target = getattr(import_module(module), attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False)
            target.command()(function)
        command = typer.main.get_command(target)
        command.name = cmd_name
        return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """streamrec: events in on Kafka, fresh top-K lists out in milliseconds."""


def main(arguments: list[str] | None = None) -> None:
    """Run `streamrec`: an error is one line on standard error, with exit code 2 if the user can mend it."""
    # a broker that is away becomes an error of ours; only workers, which configure logging, want librdkafka's own words
    logging.getLogger("librdkafka").addHandler(logging.NullHandler())
    try:
        code = app(arguments, prog_name="streamrec", standalone_mode=False)
    except typer.TyperException as error:
        _fail(error.format_message(), error.exit_code)
    except (UsageError, SettingsError) as error:
        _fail(str(error), 2)
    except StreamrecError as error:
        _fail(str(error), 1)
    except typer.Abort:
        _fail("aborted", 1)
    else:
        # a command that returns nothing has done what it was asked for
        sys.exit(code or 0)


def _fail(message: str, exit_code: int) -> None:
    if message:  # help that was printed for want of arguments has none
        sys.stderr.write(f"streamrec: {' '.join(message.split())}\n")
    sys.exit(exit_code)
