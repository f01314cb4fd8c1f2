"""The channel of context: what users choose in the contexts of their latest event."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from themed_lessons import followed, users_of

from streamrec.model.retrievers.context import ContextRetriever, ContextTeacher
from streamrec.model.retrievers.retriever import Candidates, Lesson, Retrieval
from streamrec.model.tables.context_counts import HALF_LIFE_MS, PLACES, padded

PHONE, DESK, NORTH = 11, 22, 33
NOW_MS = 1_760_000_000_000


def lesson(*events, at_ms=NOW_MS):
    """Return events of one user each: row and context."""
    each = np.arange(len(events))
    rows, contexts = zip(*events, strict=True)
    return Lesson(
        users=each,
        ends=each + 1,
        rows=np.array(rows),
        event_types=np.zeros_like(each),
        times_ms=np.full(len(events), at_ms),
        new=each,
        shares=np.ones(len(events)),
        contexts=np.stack([padded(context) for context in contexts]),
    )


def described(retriever, *contexts, rows=3, now_ms=NOW_MS):
    """Return the features of all rows for users with these contexts, `(users, rows, 3)`."""
    users = users_of([[]] * len(contexts))._replace(
        contexts=np.stack([padded(context) for context in contexts]), now_ms=np.full(len(contexts), now_ms)
    )
    found = np.tile(np.arange(1, rows + 1), len(contexts))
    owners = np.repeat(np.arange(len(contexts)), rows)
    candidates = Candidates(found, owners, rows * np.arange(len(contexts) + 1))
    features = np.zeros((3, len(found)), np.float32)
    retriever.describe(Retrieval(None, users, retriever.find(None, users), candidates, features))
    return features.T.reshape(len(contexts), rows, 3)


@pytest.fixture
def teacher():
    """Return a teacher of forty events: phones choose row 1, desks row 2."""
    teacher = ContextTeacher()
    teacher.learn(lesson(*[(1, (PHONE, NORTH))] * 20, *[(2, (DESK,))] * 20, (3, ())))
    return teacher


def test_what_is_chosen_more_often_in_the_users_context_is_above_zero(teacher):
    phone, desk, unknown, none = described(followed(ContextRetriever(), teacher), (PHONE,), (DESK,), (999,), ())
    expected = np.log(21 / 11), np.log(1 / 11)
    np.testing.assert_allclose(phone[:2, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(desk[:2, 1], expected[::-1], rtol=1e-5)
    assert not unknown.any()
    assert not none.any()


def test_the_features_are_sum_highest_and_lowest_over_the_keys(teacher):
    (both,) = described(followed(ContextRetriever(), teacher), (PHONE, DESK))
    high, low = np.log(21 / 11), np.log(1 / 11)
    np.testing.assert_allclose(both[0], [(high + low) / 2, high, low], rtol=1e-5)


def test_counts_halve_in_six_hours(teacher):
    later = described(followed(ContextRetriever(), teacher), (PHONE,), now_ms=NOW_MS + int(HALF_LIFE_MS))
    np.testing.assert_allclose(later[0, 0, 1], np.log(11 / 6), rtol=1e-4)


def test_counts_survive_weeks_without_an_event(teacher):
    teacher.learn(lesson((1, (DESK,)), at_ms=NOW_MS + 30 * 86_400_000))
    reader = followed(followed(ContextRetriever(), teacher), teacher, everything=True)
    assert np.isfinite(reader.table.counts).all()
    (desk,) = described(reader, (DESK,), now_ms=NOW_MS + 30 * 86_400_000)
    assert desk[0, 1] == pytest.approx(0.0, abs=1e-5), "all events are of this context"


@pytest.mark.parametrize(("places", "counts"), [([-1], [1.0]), ([PLACES], [1.0]), ([0], [-1.0])])
def test_counts_that_cannot_be_are_refused(places, counts):
    changes = {
        "context.places": np.array(places),
        "context.counts": np.array(counts, np.float32),
        "context.reference_ms": np.array([0]),
    }
    with pytest.raises(ValueError, match="cannot be"):
        ContextRetriever().follow(ContextRetriever(), None, changes, in_place=False)


WARMED_UP = """
from streamrec.model.ranking.lists import warm_up
from streamrec.model.retrievers import context, title
from streamrec.model.tables import context_counts

warm_up()
assert all(loop.signatures for loop in (context._describe, context_counts._add, title._cosines, title._found))
"""


def test_the_loops_are_compiled_before_the_first_event():
    """In a process of its own: others have called them."""
    subprocess.run([sys.executable, "-c", WARMED_UP], check=True)
