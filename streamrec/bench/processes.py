"""CPU time and memory of a pipeline's processes."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

from streamrec.local import Stack, Supervisor

_MIB = 1 << 20


class ProcessWatch:
    """Measures processes, including their children, while the context is active.

    Attributes
    ----------
    cpu
        Mean number of busy cores per kind of process.
    rss_mb
        Final memory per kind, MiB.
    """

    def __init__(self, stack: Stack, supervisor: Supervisor) -> None:
        pids = {name: [server.process.pid] for name, server in stack.servers.items()} | supervisor.pids()
        self._processes = {
            _LABELS.get(name, name): [process for pid in own for process in _with_children(pid)]
            for name, own in pids.items()
        }
        self.cpu: dict[str, float] = {}
        self.rss_mb: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._before_s = self._busy_s()
        self._started_s = time.monotonic()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        elapsed_s = time.monotonic() - self._started_s
        busy_s = self._busy_s()
        self.cpu = {name: round((busy_s[name] - self._before_s[name]) / elapsed_s, 3) for name in busy_s}
        self.rss_mb = {name: round(sum(map(_rss_bytes, own)) / _MIB, 1) for name, own in self._processes.items()}

    def _busy_s(self) -> dict[str, float]:
        return {
            name: sum(sum(process.cpu_times()[:2]) for process in own if process.is_running())
            for name, own in self._processes.items()
        }


def _rss_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):  # a short-lived process of PostgreSQL
        return int(process.memory_info().rss)
    return 0


_LABELS = {"redis_url": "valkey", "postgres_url": "postgres"}


def _with_children(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
