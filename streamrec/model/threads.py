"""How many processor threads the arithmetic of this process takes."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def limit_threads(count: int) -> None:
    """Let torch use so many threads, and numpy's products one.

    Lists are small work: for them threads would cost more than they bring, and take cores from others. A product waits
    for all of its threads, also for one that gets no core.
    """
    torch.set_num_threads(count)
    threadpool_limits(1, user_api="blas")
