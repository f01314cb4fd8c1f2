"""Memory and file descriptors of processes, sampled during a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from statistics import linear_regression
from types import TracebackType
from typing import NamedTuple, Self

import psutil

_MIB = 1 << 20


class Sample(NamedTuple):
    """Resources of one kind of process at one time."""

    at_s: float
    memory_mb: float
    handles: int
    """Open files, sockets and pipes."""


class Footprint:
    """Samples the total resources of the processes of each name, in a separate thread.

    Parameters
    ----------
    processes
        Returns the name and the id of each process to sample.
    every_s
        Seconds between two samples; a run of an hour has a few thousand per name.
    """

    def __init__(self, processes: Callable[[], Iterable[tuple[str, int]]], *, every_s: float) -> None:
        self._processes = processes
        self._every_s = every_s
        self.samples: dict[str, list[Sample]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="footprint")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def growth_mb(self, since_s: float) -> dict[str, float]:
        """Return the peak memory of each name after a time, minus its memory just before."""
        return {
            name: round(
                max((sample.memory_mb for sample in samples if sample.at_s > since_s), default=0.0)
                - next((sample.memory_mb for sample in reversed(samples) if sample.at_s <= since_s), 0.0),
                1,
            )
            for name, samples in self.samples.items()
        }

    def _watch(self) -> None:
        while not self._stopping.wait(self._every_s):
            taken: dict[str, list[tuple[float, int]]] = {}
            for name, pid in self._processes():
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    process = psutil.Process(pid)
                    taken.setdefault(name, []).append((process.memory_info().rss / _MIB, process.num_fds()))
            for name, each in taken.items():
                memory, handles = zip(*each, strict=True)
                self.samples.setdefault(name, []).append(Sample(time.monotonic(), sum(memory), sum(handles)))


def slope_an_hour(points: Iterable[tuple[float, float]]) -> float:
    """Return the growth per hour of the least-squares line through (seconds, value)."""
    at_s, values = zip(*points, strict=True)
    return linear_regression(at_s, values).slope * 3_600
