"""A guardian process that ends its parent's processes and bounds their logs.

The parent announces processes and logs through a pipe that only it holds open. When the pipe closes (also by `kill -9`
of the parent), the guardian ends every announced process group: SIGTERM first, SIGKILL after `GRACE_S`. Until then it
keeps their logs bounded. Each process appends to its own log, and every process and the guardian has its own session,
so that suspending the parent, for example with Ctrl-Z, blocks none of them.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE_S = 5.0

LOOK_S = 1.0
"""Interval between checks of log sizes."""

MAX_LOG_BYTES = 10_000_000
"""A log of this size becomes `NAME.log.1`, replacing the previous one."""


class Guardian:
    """Starts processes that do not outlive this one.

    Parameters
    ----------
    max_log_bytes
        Size at which a log is rotated, bytes.
    """

    def __init__(self, *, max_log_bytes: int = MAX_LOG_BYTES) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(max_log_bytes)],
            stdin=subprocess.PIPE,
            # a terminal's Ctrl-C is for the parent, which shuts down in order
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End all remaining processes."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died
            self._process.stdin.close()
        self._process.wait()

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process in its own session.

        Parameters
        ----------
        log
            File to which its standard output and error are appended.
        env
            Environment; by default that of this process.
        uid
            User and group to run as; by default those of this process.

        Raises
        ------
        OSError
            If it cannot be started, or the guardian has died.
        """
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                user=uid,
                group=uid,
                extra_groups=None if uid is None else [],
                start_new_session=True,
            )
        try:
            self._tell(group=process.pid, log=str(log.absolute()))
        except OSError:  # the guardian has died: the process would never be ended
            process.kill()
            process.wait()
            raise
        return process

    def bound(self, log: Path) -> None:
        """Bound a log that this process appends to."""
        self._tell(log=str(log.absolute()))

    def _tell(self, **what: int | str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()


def watch(pipe: int, max_log_bytes: int) -> None:
    """Manage groups and logs until the pipe closes, then end the groups."""
    groups: list[int] = []
    logs: set[str] = set()
    unread = b""
    while True:
        readable, _, _ = select.select([pipe], [], [], LOOK_S)
        if readable:
            piece = os.read(pipe, 65_536)
            if not piece:
                break
            *lines, unread = (unread + piece).split(b"\n")
            told = [json.loads(line) for line in lines]
            groups += [each["group"] for each in told if "group" in each]
            logs.update(each["log"] for each in told)
        # forget ended groups: the system reuses their ids
        groups = _signalled(groups, None)
        for log in logs:
            _bound(Path(log), max_log_bytes)
    _end(groups)


def _end(groups: list[int]) -> None:
    alive = _signalled(groups, signal.SIGTERM)
    end_s = time.monotonic() + GRACE_S
    while alive and time.monotonic() < end_s:
        time.sleep(0.05)
        alive = _signalled(alive, None)
    _signalled(alive, signal.SIGKILL)


def _signalled(groups: Sequence[int], sign: signal.Signals | None) -> list[int]:
    """Signal groups and return the existing ones; signal 0 only checks."""
    alive = []
    for group in groups:
        try:
            os.killpg(group, sign or 0)
        except (ProcessLookupError, PermissionError):  # it has ended, and its id may have been reused
            continue
        alive.append(group)
    return alive


def _bound(log: Path, max_bytes: int) -> None:
    """Rotate a log that has become too large.

    Its writers keep the file open, so it is copied and truncated instead of renamed.
    """
    try:
        if log.stat().st_size < max_bytes:
            return
        older = log.with_name(f"{log.name}.1")
        older.unlink(missing_ok=True)  # first: the disk may be full
        shutil.copyfile(log, older)
    except FileNotFoundError:
        return  # removed; the next start of its process creates it
    except OSError as error:
        # the bound holds even if older lines cannot be kept
        sys.stderr.write(f"streamrec: the older lines of {log} are lost: {error}\n")
    os.truncate(log, 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(sys.stdin.fileno(), int(sys.argv[1]))
