"""Threads of matrix products."""

from __future__ import annotations

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it comes without types


def use_one_thread() -> None:
    """Limit the matrix products of this process to one thread.

    Products of a list or a step are small: more threads would not be faster, and would take CPU time from others.
    OpenBLAS waits for all of its threads even if a core is busy.
    """
    threadpool_limits(1)
