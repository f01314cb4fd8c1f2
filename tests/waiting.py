"""How tests wait: for a condition, and no longer than one deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 300.0
"""For whatever should happen, on a slow machine whose cores others use, too; while all works it costs nothing."""


def wait(condition: Callable[[], Any], what: str, *, log: Callable[[], str] = str) -> Any:
    """Wait until a condition holds and answer its value; fail after the deadline, with a log if there is one."""
    end_s = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end_s, f"waited {DEADLINE_S} s for {what}{log()}"
        time.sleep(0.01)
    return value
