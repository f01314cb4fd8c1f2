"""What tests of use cases share."""

from __future__ import annotations

import pytest
from doubles import MemoryPublisher
from rebuild_bench import Bench

from streamrec.service.train_on_interests import TrainOnInterests


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def training(clock):
    def start(trainer, publisher=None):
        return TrainOnInterests(trainer, publisher or MemoryPublisher(), monotonic_s=lambda: clock[0])

    return start


@pytest.fixture
def bench():
    return Bench()
