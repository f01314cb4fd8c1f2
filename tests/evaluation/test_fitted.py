"""What evaluations of data sets rank by is what `recall` makes of the same versions."""

from __future__ import annotations

import numpy as np
import pytest
from builders import sequences

from streamrec.contracts.derived import UserInterest
from streamrec.domain.interest import SequenceEvent
from streamrec.evaluation.epochs import Fitting
from streamrec.evaluation.fitted import START_MS, FittedModel, Queries
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training
from streamrec.model.ranking.ranker import ModelRanker

ITEMS, K = 30, 12


@pytest.fixture(params=[True, False])
def hide_seen(request):
    return request.param


@pytest.fixture
def fitted(hide_seen):
    """Return a model that has learned walks from item to item, and the records of its version."""
    rng = np.random.default_rng(0)
    walks = sequences(*([1 + (first + step) % ITEMS for step in range(6)] for first in rng.integers(0, ITEMS, 60)))
    config, training = ModelConfig(dim=8, max_length=8), Training(negatives=16)
    model = FittedModel(config, training, Fitting(epochs=2, batch_events=32), hide_seen=hide_seen, seed=0)
    model.count(walks, START_MS + np.arange(60))
    model.fit(lambda: walks, epochs=2)
    records = model.publish()
    model.teach_blend(queries())
    return model, [*records, *model.publish()]


def queries():
    prefixes = sequences([1, 2, 3], [7], [9, 10, 11, 10], [30, 1])
    return Queries(prefixes, START_MS + 1_000 + np.arange(4), np.array([4, 8, 10, 15]))


def interest(prefix, time_ms):
    events = [SequenceEvent(time_ms, 0, 0, place, str(row), "") for place, row in enumerate(prefix.tolist())]
    return UserInterest(
        user_id="asked",
        state_version=len(events),
        event_time_ms=time_ms,
        produced_at_ms=0,
        sequence=events,
        new=[],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=len(events),
    )


def test_a_rank_is_the_place_in_the_list_that_recall_makes(fitted, hide_seen):
    model, records = fitted
    ranker = ModelRanker(hide_seen=hide_seen)
    for record in records:
        assert ranker.apply_update(record) == ""
    asked = queries()
    ranks = model.ranks(asked).listed
    for query, rank in enumerate(ranks.tolist()):
        (items,) = ranker.rank([interest(asked.prefixes.of(query), int(asked.times_ms[query]))], k=K)
        target = str(asked.targets[query])
        listed = [item.item_id for item in items]
        assert rank == (listed.index(target) if target in listed else rank)
        assert (rank < K) == (target in listed)
    assert (ranks < K).any()


def test_seen_items_are_ranked_unless_they_are_hidden(fitted, hide_seen):
    model, _ = fitted
    ranks = model.ranks(queries())
    assert (ranks.listed[2] == NOT_LISTED) == hide_seen
    assert (ranks.model_alone[2] == NOT_LISTED) == hide_seen


def test_unknown_items_and_users_without_a_known_item_have_no_rank(fitted):
    model, _ = fitted
    unknown = Queries(sequences([1, 2], [99]), np.array([START_MS, START_MS]), np.array([99, 3]))
    ranks = model.ranks(unknown)
    assert ranks.listed[0] == ranks.model_alone[0] == NOT_LISTED
    assert ranks.model_alone[1] == NOT_LISTED
    assert model.knows(np.array([1, 99])).tolist() == [True, False]


def test_an_item_that_is_counted_but_not_published_yet_has_no_rank(fitted):
    model, _ = fitted
    model.count(sequences([77, 1]), np.array([START_MS + 500]))
    ranks = model.ranks(Queries(sequences([1, 77], [1]), np.full(2, START_MS + 1_000), np.array([2, 77])))
    assert model.knows(np.array([77])).all()
    assert ranks.listed[0] < NOT_LISTED
    assert ranks.listed[1] == ranks.model_alone[1] == NOT_LISTED


def test_no_queries_have_no_ranks(fitted):
    model, _ = fitted
    none = Queries(sequences(), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert [len(each) for each in model.ranks(none)] == [0, 0]
