"""Waiting until a pipeline has nothing left to do."""

from __future__ import annotations

import pytest

from streamrec.errors import StreamrecError, TransientError
from streamrec.playback import rest
from streamrec.playback.rest import Rest
from streamrec.service.list_marks import Census, Facts
from streamrec.settings import Settings

VERSION = "ab12cd34-17"


class Marks:
    """Tells of one look after the other, the last of them again and again."""

    def __init__(self, looks):
        self._looks, self.looked = looks, 0

    def facts(self):
        self.looked += 1
        return self._look()[0]

    def count(self, _facts):
        return self._look()[1]

    def _look(self):
        return self._looks[min(self.looked, len(self._looks)) - 1]


def facts(**fields):
    return Facts(**{"version": VERSION, "quiet": True} | fields)


@pytest.fixture
def new_rest(monkeypatch):
    """Return a function that makes what waits for marks, and the list of what it says."""
    monkeypatch.setattr(rest, "_POLL_S", 0.001)

    def make(looks):
        said = []
        made = Rest(Settings(kafka="localhost:1", redis_url="redis://localhost:1/0"), said.append)
        made._marks = Marks(looks)
        return made, said

    return make


def test_it_waits_until_all_is_learned_and_in_the_lists(new_rest):
    looks = [
        (Facts(), Census()),
        (facts(lacking=7), Census(behind=3)),
        (facts(quiet=False), Census(behind=3)),
        (facts(), Census(behind=3)),
        (facts(), Census(far=1)),
        (facts(quiet=False), Census()),
        (facts(), Census(complete=4)),
    ]
    made, said = new_rest(looks)
    made.until_lists_are_new()

    assert made._marks.looked == len(looks)
    assert not said


def test_a_server_that_is_busy_is_asked_again(new_rest):
    class Busy(Marks):
        def facts(self):
            found = super().facts()
            if self.looked == 1:
                raise TransientError("busy")
            return found

    made, _ = new_rest([])
    made._marks = Busy([(facts(), Census())] * 2)
    made.until_lists_are_new()

    assert made._marks.looked == 2


def test_whoever_waits_long_is_told_what_for_once(new_rest, monkeypatch):
    monkeypatch.setattr(rest, "TELLING_S", 0.0)
    made, said = new_rest([(facts(lacking=1_207), Census(behind=2))] * 4 + [(facts(), Census())])
    made.until_lists_are_new()

    assert said == ["still left: 1,207 events to learn, 2 lists to rebuild"]


def test_workers_that_stop_are_named_with_what_is_left(new_rest, monkeypatch):
    monkeypatch.setattr(rest, "STALLED_S", 0.01)
    made, _ = new_rest([(facts(lacking=5), Census())])

    with pytest.raises(StreamrecError, match=r"made no progress for 0 s; still left: 5 events to learn"):
        made.until_lists_are_new()
