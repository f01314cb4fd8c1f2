"""Lists that wait to be rebuilt are reported by the one rule, on the page and in messages."""

from __future__ import annotations

import time

import msgspec
import pytest

from streamrec.monitor.lists import Lists, ListWatch, why_waiting
from streamrec.monitor.observation import Observation
from streamrec.monitor.page import Page
from streamrec.service.list_marks import Census, Facts
from streamrec.settings import Settings

NOW_MS = 1_760_000_000_000
FACTS = Facts(
    version="v7", events=900, lacking=100, known_items=40, other_items=8, top_k=50, waiting_since_ms=NOW_MS - 90_000
)
WAITING = Census(poor=1_200, far=3, short=4, behind=10, complete=3, all_short=9)


def seen_with(census, facts=FACTS):
    return Observation(10.0, at_s=NOW_MS / 1_000, read_s=time.monotonic(), lists=Lists(facts, census))


@pytest.mark.parametrize("census", [Census(poor=1), Census(far=1), Census(short=1)])
def test_no_figure_says_healthy_while_a_list_waits(census):
    now = seen_with(census)
    assert [cause.name for cause in now.causes] == ["lists-waiting"]
    assert not now.verdict["ready"]
    assert "Not healthy" in Page().index(now)


def test_nothing_is_wrong_while_no_list_waits():
    for now in (
        Observation(10.0, read_s=time.monotonic()),
        seen_with(Census(behind=10, complete=5, all_short=5)),
        seen_with(Census(), Facts()),
    ):
        assert now.causes == []
        assert "Healthy" in Page().index(now)


@pytest.mark.parametrize(("marked", "rolled_back", "named"), [(0, 1, True), (1, 1, False), (None, 1, False)])
def test_no_figure_says_healthy_before_a_rollback_is_in_the_marks(marked, rolled_back, named):
    now = seen_with(Census(behind=10), msgspec.structs.replace(FACTS, rollbacks=marked))
    now.versions = msgspec.structs.replace(now.versions, rolled_back=rolled_back)
    assert [cause.name for cause in now.causes] == ["lists-waiting"] * named


def test_it_is_said_how_many_wait_and_why():
    assert why_waiting(Lists(FACTS, WAITING)) == (
        "1,200 made by a version that lacked much of the stream and 3 made by an outdated version "
        "and 4 shorter than 50 items"
    )
    html = Page().sections(seen_with(WAITING), draw=True)["lists"]
    for words in ("1,207", "90.0 s", "900, 100", "40, 8", "0.7 %"):
        assert words in html, words


def test_the_share_of_short_lists_is_unknown_without_lists():
    assert Lists(FACTS, Census()).short_share is None
    assert Lists(FACTS, Census(behind=3, complete=1, all_short=1)).short_share == 0.25
    assert Lists(FACTS, Census()).waiting_s(NOW_MS / 1_000) is None


def test_without_an_address_of_redis_nothing_is_seen():
    assert ListWatch(Settings()).look() is None
