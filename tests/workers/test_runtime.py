"""What a reader meets ends no worker: what passes is tried again, and what does not is named."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from waiting import DEADLINE_S

from streamrec.errors import StreamrecError, TransientError, UnfitServerError, WrongTopicError
from workers import readiness, runtime, servers, waiting
from workers.readiness import paused, why_paused
from workers.waiting import Background, poll

APP = "streamrec-test-runtime"

STOPPED_WHILE_WAITING = """
import os, signal, sys
import faust
from streamrec.errors import TransientError
from workers.runtime import new_app, run_in_background
from workers.waiting import persist_until

def work(worker):
    def away():
        os.kill(os.getpid(), signal.SIGTERM)
        raise TransientError("Redis: away")
    persist_until(worker.stopping, away)

app = new_app("test-stop")
run_in_background(app, work)
faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False).execute_from_commandline()
"""


@pytest.fixture
def worker():
    return Background(None, threading.Event())


class Source:
    """Does what it is told to do with each poll."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.closed = False

    def poll(self, _timeout_s):
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    def close(self):
        self.closed = True


def test_an_error_of_the_reader_that_passes_is_tried_again(worker):
    source = Source(TransientError("no watermarks now"), TransientError("still none"), "a batch")
    with capture_logs() as logged:
        assert poll(source, worker) == "a batch"
    assert [line["because"] for line in logged if line["event"] == "retry"] == ["no watermarks now", "still none"]


def test_an_error_of_the_reader_that_does_not_pass_ends_the_worker(worker):
    with pytest.raises(StreamrecError, match="forgotten every broker"):
        poll(Source(StreamrecError("librdkafka has forgotten every broker")), worker)


def test_a_worker_that_is_to_stop_does_not_wait_for_the_broker(worker):
    worker.stopping.set()
    assert poll(Source(TransientError("away")), worker) is None


def test_a_worker_whose_topic_was_recreated_waits_outside_of_the_group_until_it_is_right(worker, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE_REMINDER_S", 0.05)
    error = WrongTopicError("topic clicks was re-created; start with empty stores, or with the right broker")
    source, refused, worked, told = Source(error, "a batch"), [error, error], [], []

    def open_source():
        told.append(why_paused(APP))
        if len(told) > 1 and refused:
            raise refused.pop()
        return source

    def work(source):
        told.append(why_paused(APP))
        worked.append(poll(source, worker))
        worker.stopping.set()

    with capture_logs() as logged:
        waiting.while_right(APP, worker, open_source, work)

    assert worked == ["a batch"]
    assert told == [None, None, str(error), str(error), str(error), None]
    assert source.closed, "one that is refused leaves the group"
    assert [line["log_level"] for line in logged if line["event"] == "refused"] == ["error"] * 3


def test_a_worker_that_is_stopped_while_it_waits_for_a_server_ends_in_order():
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_WAITING],
        cwd=Path(runtime.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_that_waits_for_its_servers_at_the_start_is_alive_and_not_ready(worker, monkeypatch):
    told, answers = [], [TransientError("Redis: away"), UnfitServerError("Redis: it evicts keys"), (), ()]

    def check():
        told.append(why_paused(APP))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(servers, "RECHECK_S", 0.01)
    servers.ask_servers(worker, APP, servers.Store(dict, SimpleNamespace(check=check), check))
    assert told == [servers.ASKING, servers.ASKING, "Redis: it evicts keys", servers.ASKING]
    assert why_paused(APP) is None


def test_a_full_disk_keeps_no_worker_from_pausing(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(readiness, "_mark", full)
    with capture_logs() as logged, paused(APP, "because"):
        assert why_paused(APP) is None
    assert [line["event"] for line in logged] == ["probes cannot see the pause"]
