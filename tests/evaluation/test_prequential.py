"""The whole evaluation on small streams: what it may know, and when."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from interests import START_MS

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules
from streamrec.evaluation.baselines import retrained
from streamrec.evaluation.baselines.factorization import MatrixFactorization
from streamrec.evaluation.baselines.frozen import Frozen
from streamrec.evaluation.baselines.neighbours import SessionNeighbours
from streamrec.evaluation.baselines.popularity import RecentPopularity
from streamrec.evaluation.baselines.retrained import Retrained
from streamrec.evaluation.prequential import Prequential
from streamrec.model.network.config import ModelConfig
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.training.rules import Rules
from streamrec.model.training.trainer import Trainer

LENGTH = 20


def events(count, *, seed=0, items=25, users=12, first=0):
    """Return a seeded stream of users who stay within one of four themes most of the time."""
    draw = random.Random(seed)
    stream = []
    for offset in range(first, first + count):
        user = draw.randrange(users)
        theme = user % 4 if draw.random() < 0.9 else draw.randrange(4)
        item = f"{theme}-{min(int(draw.expovariate(0.2)), items - 1)}"
        event_type = EventType.PURCHASE if draw.random() < 0.1 else EventType.CLICK
        stream.append(Event(f"u{user}", item, START_MS + 1_000 * offset, Source(event_type, 0), offset))
    return stream


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Play a stream, and return the scores."""
    monkeypatch.setattr(retrained, "MAX_EPOCHS", 4)

    def new_trainer():
        return Trainer(
            ModelConfig(dim=16, max_length=LENGTH),
            Rules(hide_seen=False),
            device=torch.device("cpu"),
            checkpoints=tmp_path / str(next(numbers)),
        )

    numbers = itertools.count()

    def play_stream(stream, *, unscored=100, total=None, age_s=math.inf):
        run = Prequential(
            new_trainer(),
            ModelRanker(hide_seen=False),
            [
                RecentPopularity(hide_seen=False, sequence_length=LENGTH),
                SessionNeighbours(hide_seen=False, sequence_length=LENGTH),
                MatrixFactorization(hide_seen=False, sequence_length=LENGTH, seed=0),
            ],
            frozen=Frozen(hide_seen=False),
            retrained=Retrained(lambda: new_trainer().model, hide_seen=False, micro_batch_events=64),
            micro_batch_events=64,
            micro_batch_age_ms=1_000 * age_s,
            rules=FoldRules(LENGTH),
        )
        run.play(stream, unscored=unscored, total=total or len(stream))
        return run.scores

    return play_stream


def test_what_comes_later_changes_no_score_before_it(play):
    """Every event after the first 230 is another one, of other users and items; all scores up to there are the same."""
    past = events(230)
    one = play(past + events(70, seed=1, first=230))
    other = play(past + events(70, seed=2, items=5, users=30, first=230))

    scored = 230 - 100
    assert len(one) == len(other) == 200
    assert np.array_equal(one.ranks[:scored], other.ranks[:scored])
    assert np.array_equal(one.listed[:scored], other.listed[:scored])
    assert not np.array_equal(one.ranks[scored:], other.ranks[scored:])


def test_the_first_part_is_learned_and_not_scored(play):
    scores = play(events(160), unscored=120)

    assert len(scores) == 40
    assert scores.times_ms[0] == START_MS + 120_000
    assert not all(scores.is_new)


def test_every_method_learns_the_themes_of_users(play):
    """Hit rates at 10 of 100 items: each personal method does better than popularity, the same for everybody."""
    scores = play(events(600), unscored=300)

    hit_rates = dict(zip(scores.names, (scores.ranks < 10).mean(0), strict=True))
    popular = max(rate for name, rate in hit_rates.items() if name.startswith("popular"))
    for name in ("streamrec", "frozen", "retrained", "neighbours_168h"):
        assert hit_rates[name] > 1.2 * popular, hit_rates


def test_items_never_seen_before_are_misses_of_everyone(play):
    stream = events(200)
    novel = [
        Event(f"u{n % 5}", f"novel-{n}", START_MS + 1_000_000 + n, Source(EventType.CLICK, 0), 500 + n)
        for n in range(40)
    ]
    scores = play(stream + novel, unscored=200)

    assert all(scores.is_new)
    assert (scores.ranks >= 20).all()


@pytest.mark.parametrize(("age_s", "after_s", "is_listed"), [(5, 6, True), (5, 4, False), (math.inf, 6, False)])
def test_a_new_item_is_listed_once_its_micro_batch_is_old_enough(play, age_s, after_s, is_listed):
    stream = events(200)
    began_ms = stream[-1].event_time_ms + 10_000
    new = [
        Event("u3", "new", began_ms + 1_000 * after, Source(EventType.CLICK, 0), 500 + after) for after in (0, after_s)
    ]
    scores = play(stream + new, unscored=200, age_s=age_s)

    assert (scores.ranks[1, 0] < 20) == is_listed
    assert scores.ranks[0, 0] >= 20


def test_a_frozen_model_does_not_learn_and_the_others_do(play):
    """After the first part users change to new items."""
    stream = events(300)
    moved = [
        Event(event.user_id, f"new {event.item_id}", event.event_time_ms + 300_000, event.source, event.offset + 300)
        for event in events(300, seed=3)
    ]
    scores = play(stream + moved, unscored=300)

    late = dict(zip(scores.names, (scores.ranks[150:] < 10).mean(0), strict=True))
    assert late["frozen"] == 0
    assert late["retrained"] > 0.1
    assert late["streamrec"] > 0.1
