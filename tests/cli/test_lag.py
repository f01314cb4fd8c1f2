"""The table that is watched."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from streamrec.adapters.kafka.group_lag import PartitionLag
from streamrec.cli.lag import watched


@pytest.mark.parametrize(("partitions", "shown"), [(8, 8), (22, 22), (23, 22), (60, 22)])
def test_watched_lag_fits_the_screen_and_shows_the_partitions_with_most_lag(partitions, shown):
    lags = [
        PartitionLag(group="g", topic="clicks", partition=n, committed=0, end=n, lag=n, behind_s=0.0)
        for n in range(partitions)
    ]
    screen = Console(file=StringIO(), width=80, height=24)
    screen.print(watched(lags, screen.height))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) <= 24
    assert sum("clicks" in line for line in lines) == shown
    assert any(f" {partitions - 1} " in line for line in lines)
    assert any("more partitions, none with more lag" in line for line in lines) == (shown < partitions)
