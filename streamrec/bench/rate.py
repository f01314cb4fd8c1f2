"""The highest click rate that a build of streamrec sustains, found by bisection of runs of its own `bench freshness`.

Builds are measured in turns, each with its own servers, workers and formats.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import streamrec
from streamrec.errors import StreamrecError

OWN_BUILD = Path(streamrec.__file__).parents[1]

PATIENCE_S = 1_800.0
"""Timeout for one run besides its length: users get their history first."""

LEAST_RATE = 1.0

_ROUNDING = 1e-9


class Run(NamedTuple):
    """A run of a build at a rate."""

    rate: float
    saturated: bool
    p50_ms: float
    p99_ms: float
    floor_p50_ms: float
    cpu: Mapping[str, float]
    """CPU time per click of each process, milliseconds."""

    def holds(self, p99_ms: float) -> bool:
        """Return whether the build kept up, with at most this 99th percentile of latency."""
        return not self.saturated and self.p99_ms <= p99_ms


class RateSearch:
    """Bisects the highest rate that holds.

    Parameters
    ----------
    first
        Rate to start from.
    precision
        Maximum ratio between the lowest rate that failed and the highest one that held.

    Examples
    --------
    >>> search = RateSearch(100.0, precision=1.1)
    >>> while not search.is_done:
    ...     search.note(search.next_rate, holds=search.next_rate <= 270)
    >>> round(search.held), round(search.failed)
    (259, 283)
    """

    def __init__(self, first: float, *, precision: float) -> None:
        self._first, self._precision = first, precision
        self.held = 0.0
        self.failed = math.inf

    @property
    def is_done(self) -> bool:
        """Whether the rate is known precisely, or none holds."""
        return self.failed <= max(LEAST_RATE, self.held * self._precision * (1 + _ROUNDING))

    @property
    def next_rate(self) -> float:
        """Rate to try next."""
        if not self.held:
            return self._first if math.isinf(self.failed) else self.failed / 2
        return 2 * self.held if math.isinf(self.failed) else math.sqrt(self.held * self.failed)

    def note(self, rate: float, *, holds: bool) -> None:
        """Record whether a rate holds; a failure refutes higher rates that held before, in shorter runs."""
        if holds:
            self.held = max(self.held, rate)
            return
        self.failed = min(self.failed, rate)
        if self.held >= self.failed:
            self.held = self.failed / self._precision


def run_build(path: Path, rate: float, seconds: float, options: Mapping[str, object]) -> Run:
    """Run `bench freshness` of the build in a directory, on servers of its own.

    Parameters
    ----------
    path
        Directory with the build's `streamrec` and `workers`, for instance a Git worktree; it runs with the packages
        that are installed here.
    options
        Further options of the command.

    Raises
    ------
    StreamrecError
        If there is no build, or the run fails.
    """
    if not (path / "streamrec" / "__main__.py").is_file():
        raise StreamrecError(f"{path} has no streamrec: give the directory of a build, as made by `git worktree add`")
    command = [sys.executable, "-m", "streamrec", "bench", "freshness", "--rate", str(rate), "--seconds", str(seconds)]
    command += ["--runs", "1", "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    try:
        ended = subprocess.run(  # noqa: S603  # our own command
            command,
            cwd=path,
            env=os.environ | {"PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S + seconds,
        )
    except subprocess.TimeoutExpired:
        raise StreamrecError(f"{path}: a run of {seconds:g} s did not end in {PATIENCE_S + seconds:,.0f} s") from None
    if ended.returncode:
        raise StreamrecError(f"{path}: {' '.join(command[1:])} failed: {ended.stderr.strip()[-2_000:]}")
    return _run(json.loads(ended.stdout))


def _run(figures: Mapping[str, Any]) -> Run:
    return Run(
        rate=figures["rate"],
        saturated=figures["saturated"],
        p50_ms=figures["redis_p50_ms"],
        p99_ms=figures["redis_p99_ms"],
        floor_p50_ms=figures["floor_p50_ms"],
        cpu={name: 1_000 * cores / figures["rate_reached"] for name, cores in figures["cpu"].items()},
    )


def highest_rates(
    builds: Mapping[str, Callable[[float, float], Run]],
    *,
    first: float,
    precision: float,
    p99_ms: float,
    trial_s: float,
    final_s: float,
) -> dict[str, float]:
    """Return the highest rate that each build sustains, 0 if none.

    Parameters
    ----------
    builds
        Runs each build with a rate, for a number of seconds.
    first, precision
        See :class:`RateSearch`.
    p99_ms
        Maximum 99th percentile of latency.
    trial_s, final_s
        Length of the runs of the search, and of the one that confirms its result.
    """
    searches = {name: RateSearch(first, precision=precision) for name in builds}
    confirmed: dict[str, float] = {}
    while len(confirmed) < len(builds):
        for name, run in builds.items():
            search = searches[name]
            if name in confirmed:
                continue
            if not search.is_done:
                rate = search.next_rate
                search.note(rate, holds=run(rate, trial_s).holds(p99_ms))
            elif search.held <= LEAST_RATE or run(search.held, final_s).holds(p99_ms):
                confirmed[name] = search.held
            else:
                search.note(search.held, holds=False)
    return confirmed
