"""A stack of its own for each end-to-end test: topics have fixed names, and no test must see another one's events."""

from __future__ import annotations

import pytest
from pipeline import Pipeline

from streamrec.local import local_stack
from streamrec.settings import Settings


@pytest.fixture
def pipeline(tmp_path):
    """Real servers and nothing else; a test starts the workers that it needs."""
    settings = Settings(data_dir=tmp_path, partitions=4)
    with local_stack(settings, progress=False) as stack, Pipeline(stack) as running:
        yield running
