"""No process is left behind: a guardian ends what its parent started, however the parent itself ends.

The guardian reads process ids from a pipe that only the parent holds open. When the pipe closes (also by `kill -9` of
the parent) it ends every process group that it knows: SIGTERM first, SIGKILL after `GRACE_S`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

GRACE_S = 5.0


class Guardian:
    """Starts processes that do not outlive this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            # a terminal's Ctrl-C is for the parent, which stops things in order
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End whatever still runs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        output: int | IO[Any],
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own.

        Parameters
        ----------
        output
            Where its standard output and error go.
        env
            Its environment; this process's own if not given.
        uid
            The user and group that it runs as; this process's own if not given.
        """
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
        assert self._process.stdin is not None
        self._process.stdin.write(f"{process.pid}\n".encode())
        self._process.stdin.flush()
        return process


def watch(pids: IO[str]) -> None:
    """Read process ids until the pipe closes, then end their groups."""
    groups = [int(line) for line in pids]
    alive = _signalled(groups, signal.SIGTERM)
    end_s = time.monotonic() + GRACE_S
    while alive and time.monotonic() < end_s:
        time.sleep(0.05)
        alive = _signalled(alive, None)
    _signalled(alive, signal.SIGKILL)


def _signalled(groups: Sequence[int], sign: signal.Signals | None) -> list[int]:
    """Signal groups and return those that are there; without a signal, only look."""
    alive = []
    for group in groups:
        try:
            os.killpg(group, sign or 0)
        except ProcessLookupError:
            continue
        alive.append(group)
    return alive


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(sys.stdin)
