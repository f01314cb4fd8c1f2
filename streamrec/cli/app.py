"""The command line's root: every command is a module of its own beside this file."""

from __future__ import annotations

import sys

import typer

from streamrec.errors import SettingsError, UsageError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


def main() -> None:
    """Run `streamrec`; a user's error is one line on standard error and exit code 2."""
    try:
        app()
    except (UsageError, SettingsError) as error:
        sys.stderr.write(f"streamrec: {error}\n")
        sys.exit(2)
