"""Pipelines with separate servers: topics have fixed names, and tests must not see each other's events."""

from __future__ import annotations

import pytest
from pipeline import own_servers


@pytest.fixture
def pipeline(tmp_path):
    """Run servers for one test, which starts the workers that it needs."""
    with own_servers(tmp_path) as pipeline:
        yield pipeline


@pytest.fixture
def often_saved(tmp_path):
    """Run servers for workers that write a checkpoint every second."""
    with own_servers(tmp_path, checkpoint_interval_s=1.0) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Run all workers for the tests of a module, which keep to users and items of their own."""
    with own_servers(tmp_path_factory.mktemp("running"), hide_seen=True) as pipeline:
        pipeline.start("interests", "interests", "trainer", "recall", "retention")
        yield pipeline
