from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain.event_context import MAX_CONTEXT_KEYS
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.retriever import Lesson
from streamrec.model.retrievers.session import SESSION_EVENTS, SessionRetriever, SessionTeacher
from streamrec.model.tables import session_log
from streamrec.model.tables.neighbour_lists import SESSION_GAP_MS
from streamrec.model.tables.session_log import SessionLog

NOW = 1_760_000_000_000
ROWS = 6

EVENTS = st.lists(st.tuples(st.integers(1, ROWS), st.integers(0, 9)), max_size=60)


@pytest.fixture
def small(monkeypatch):
    """Let the log hold sixteen events."""
    monkeypatch.setattr(session_log, "MAX_EVENTS", 16)
    monkeypatch.setattr(session_log, "_FIRST_CAPACITY", 4)
    monkeypatch.setattr(SessionLog.at.__func__, "__defaults__", (4,))
    return 16


def filled(events):
    """Append events of row and link, one batch of five after the other."""
    log = SessionLog.at(0)
    for start in range(0, len(events), 5):
        rows, before = np.array(events[start : start + 5], np.int64).T
        log = log.extended(rows, NOW + np.arange(start, start + len(rows)), before)
    return log


def kept(log):
    return log.latest()[["row", "time_ms", "before"]].tolist()


def postings(log, row):
    """Return the numbers of a row's events by its links, latest first."""
    numbers, number = [], int(log.newest[row]) - 1 if row < len(log.newest) else -1
    while number >= log.begin:
        numbers.append(number)
        step = int(log.events[number % len(log.events)]["older"])
        if not step:
            break
        number -= step
    return numbers


def session(log, number):
    """Return the number of the first event of the session of an event."""
    return number - int(log.events[number % len(log.events)]["first"])


@pytest.mark.usefixtures("small")
@given(EVENTS)
@settings(deadline=None)
def test_the_log_holds_the_latest_events_with_their_links(events):
    log = filled(events)
    begin = max(0, len(events) - 16)
    assert (log.begin, log.end) == (begin, len(events))
    assert len(log.events) <= 16
    assert [(row, time_ms - NOW) for row, time_ms, _ in kept(log)] == [
        (row, number) for number, (row, _) in enumerate(events) if number >= begin
    ]
    for row in range(1, ROWS + 1):
        own = [number for number in range(len(events) - 1, begin - 1, -1) if events[number][0] == row]
        assert postings(log, row) == own
    for number in range(begin, len(events)):
        back = events[number][1]
        at = number % len(log.events)
        if 0 < back <= number - begin:
            assert log.events[at]["before"] == back
            assert log.events[(number - back) % len(log.events)]["after"] > 0
            assert session(log, number) == session(log, number - back)


@pytest.mark.usefixtures("small")
@given(EVENTS, st.integers(1, ROWS))
@settings(deadline=None)
def test_a_forgotten_row_has_no_events(events, row):
    log = filled(events).without(np.array([row, 99]))
    assert postings(log, row) == []
    assert [each for each, _, _ in kept(log)] == [each if each != row else 0 for each, _ in events[-16:]]
    others = [each for each in range(1, ROWS + 1) if each != row]
    assert [postings(log, each) for each in others] == [postings(filled(events), each) for each in others]


def lesson(users, rows, times_ms):
    """Return new events, one of each user."""
    each = np.arange(len(users))
    return Lesson(
        users=np.array(users),
        ends=each + 1,
        rows=np.array(rows),
        event_types=np.zeros_like(each),
        times_ms=np.array(times_ms),
        new=each,
        shares=np.ones(len(users)),
        contexts=np.zeros((len(users), MAX_CONTEXT_KEYS), np.int64),
    )


def links(teacher):
    return teacher.state()["before"].tolist()


def test_a_session_is_of_one_user_and_ends_with_a_pause():
    teacher = SessionTeacher()
    teacher.learn(lesson([1, 2], [1, 1], [NOW, NOW]))
    teacher.learn(lesson([1, 2], [2, 2], [NOW + SESSION_GAP_MS, NOW + SESSION_GAP_MS + 1]))
    assert links(teacher) == [0, 0, 2, 0]


def test_an_item_that_is_opened_again_at_once_counts_once():
    teacher = SessionTeacher()
    for row in (1, 1, 2, 1):
        teacher.learn(lesson([1], [row], [NOW]))
    assert teacher.state()["row"].tolist() == [1, 2, 1]


def test_a_session_without_an_end_is_cut():
    teacher = SessionTeacher()
    for number in range(SESSION_EVENTS + 1):
        teacher.learn(lesson([1], [1 + number % 2], [NOW + number]))
    assert links(teacher) == [0, *[1] * (SESSION_EVENTS - 1), 0]


def test_sessions_continue_after_a_checkpoint():
    teacher, restored = SessionTeacher(), SessionTeacher()
    teacher.learn(lesson([1, 2], [1, 2], [NOW, NOW]))
    restored.load(teacher.state())
    for each in (teacher, restored):
        each.learn(lesson([2, 1], [3, 3], [NOW + 1, NOW + 1]))
    assert links(restored) == links(teacher) == [0, 0, 1, 3]


def test_a_reader_forgets_an_item_before_its_row_is_anothers():
    teacher, reader = SessionTeacher(), SessionRetriever()
    teacher.learn(lesson([1, 1], [1, 2], [NOW, NOW + 1]))
    for everything in (True, False):
        later = SessionRetriever()
        later.follow(reader, ServingModel(size=3), teacher.changes(3, everything=everything), in_place=False)
        reader = later
        teacher.forget(1)
        teacher.learn(lesson([2], [1], [NOW + 2]))
    later = SessionRetriever()
    later.follow(reader, ServingModel(size=3), teacher.changes(3, everything=False), in_place=False)
    assert [row for row, _, _ in kept(later.log)] == [0, 2, 0, 1]
    assert postings(later.log, 1) == [3]
    assert [row for row, _, _ in kept(reader.log)] == [0, 2, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"session.row": np.array([1, 3])},
        {"session.row": np.array([1, -1])},
        {"session.row": np.array([1])},
        {"session.forgotten": np.array([-1])},
        {"session.begin": np.array([-1])},
    ],
)
def test_sessions_that_a_version_cannot_have_are_refused(wrong):
    teacher = SessionTeacher()
    teacher.learn(lesson([1, 2], [1, 2], [NOW, NOW + 1]))
    changes = teacher.changes(3, everything=True) | wrong
    with pytest.raises(ValueError, match="sessions"):
        SessionRetriever().follow(SessionRetriever(), ServingModel(size=3), changes, in_place=False)


def test_a_log_that_grows_compiles_nothing_new():
    numbers = np.arange(3_000)
    SessionLog.at(0).extended(numbers, numbers, np.zeros(3_000, np.int32)).extended(numbers, numbers, numbers * 0)
    assert {array.layout for signature in session_log._append.signatures for array in signature[1:]} == {"C"}
