"""Threads of matrix products."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it comes without types


def limit_threads(threads: int = 1) -> None:
    """Limit numpy's matrix products in this process.

    Products of a list or a step are small: more threads would not be faster, and would take CPU time from others.
    OpenBLAS waits for all of its threads, even if another process has their cores.
    """
    threadpool_limits(threads)
