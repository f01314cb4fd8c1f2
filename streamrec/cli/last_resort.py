"""Errors that no command handles, in one line: unusable files, a broken pipe."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from streamrec.errors import SettingsError, StreamrecError, UsageError
from streamrec.visible import visible

_MENDED_BY_THE_USER = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""A path that does not exist or is not accessible."""


class OutputClosedError(Exception):
    """The reader of standard output has closed it."""


@contextmanager
def last_resort() -> Iterator[None]:
    """Turn errors into one line and an exit code: 2 for usage errors, else 1."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a broken pipe is noticed here, not when Python exits
    except (UsageError, SettingsError) as error:
        fail(str(error), 2)
    except StreamrecError as error:
        fail(str(error), 1)
    except (BrokenPipeError, OutputClosedError):
        _leave_standard_output()
        fail("standard output was closed by its reader", 1)
    except OSError as error:
        _leave_standard_output()
        fail(_in_words(error), 2 if error.errno in _MENDED_BY_THE_USER else 1)
    except UnicodeEncodeError as error:
        # an address, a path or a password in the environment; the text itself may be a secret
        fail(f"a setting is not valid UTF-8 ({error.reason})", 2)


def fail(message: str, exit_code: int) -> NoReturn:
    """Print the error in one line on standard error, and exit."""
    if message:  # help printed because of missing arguments has none
        sys.stderr.write(f"streamrec: {visible(' '.join(message.split()))}\n")
    sys.exit(exit_code)


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that are not UTF-8.

    Raises
    ------
    UsageError
        If one of them is not UTF-8.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise UsageError(f"an argument is not UTF-8: {shown}") from None


def claim_standard_streams() -> None:
    """Make sure that standard input, output and error are open and can hold any text.

    Otherwise the next file or connection would reuse the descriptor of a closed stream and be printed into, and
    printing a non-ASCII name to an ASCII terminal would fail.
    """
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, mode)
            setattr(sys, name, os.fdopen(number, "r" if mode == os.O_RDONLY else "w"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's own stream has none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _leave_standard_output() -> None:
    """Discard buffered output: Python would try to write it on exit, and fail."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _in_words(error: OSError) -> str:
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, (str, bytes))]
    reason = error.strerror or str(error) or type(error).__name__
    return f"{' and '.join(paths)}: {reason}" if paths else reason
