from __future__ import annotations

import numpy as np
import pytest
from builders import sequences

from streamrec.evaluation.epochs import Fitting
from streamrec.evaluation.incremental import Incremental, IncrementalSettings, SliceRanks, slices_of
from streamrec.evaluation.metrics import NOT_LISTED
from streamrec.evaluation.sequences import Sequences
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.learner import Training

SETTINGS = IncrementalSettings(
    model=ModelConfig(dim=8, max_length=4),
    training=Training(negatives=16),
    fitting=Fitting(epochs=2, batch_events=32),
    first_epochs=2,
    memory=20,
)


def walk(rng: np.random.Generator, sessions: int, items: int) -> Sequences:
    """Return sessions that go from an item to the next."""
    return sequences(*([1 + (first + step) % items for step in range(5)] for first in rng.integers(0, items, sessions)))


def play(*slices: Sequences, settings: IncrementalSettings = SETTINGS, seed: int = 0) -> list[SliceRanks]:
    return list(Incremental(list(slices), settings, seed=seed).play(on_step=lambda _share: None))


@pytest.fixture
def weeks():
    rng = np.random.default_rng(0)
    return [walk(rng, 40, 12), walk(rng, 30, 14), walk(rng, 30, 16), walk(rng, 10, 16)]


def test_sessions_that_span_two_slices_are_two():
    slices = slices_of(np.array([5, 9, 5, 9, 5]), np.array([1, 2, 3, 4, 5]), np.array([0, 0, 0, 1, 1]), None)

    assert [part.rows.tolist() for part in slices] == [[2, 1, 3], [4, 5]]
    assert [part.lengths.tolist() for part in slices] == [[1, 2], [1, 1]]


def test_every_prefix_predicts_the_next_item_among_all_seen_so_far(weeks):
    first, second = weeks[0], sequences([1, 2, 3, 4, 5, 6], [7], [8, 9])
    (ranks,) = play(first, second)

    assert ranks.sessions.tolist() == [0, 0, 0, 0, 0, 2]
    assert ranks.items == 12
    assert (ranks.listed[ranks.listed < NOT_LISTED] < 12).all()


def test_items_never_seen_are_no_part_of_the_test(weeks):
    first = weeks[0]
    with_new = play(first, sequences([1, 90, 2, 3], [90, 4], [91, 92]))[0]
    without = play(first, sequences([1, 2, 3], [4], []))[0]

    assert with_new.unseen == 4
    assert with_new.listed.tolist() == without.listed.tolist()
    assert with_new.model_alone.tolist() == without.model_alone.tolist()


def test_what_comes_later_changes_nothing_before(weeks):
    before = play(*weeks)
    changed = sequences(*([int(row) for row in part[::-1]] for part in np.split(weeks[2].rows, weeks[2].starts[1:-1])))
    after = play(weeks[0], weeks[1], changed, weeks[3])

    assert before[0].listed.tolist() == after[0].listed.tolist()
    assert before[1].listed.tolist() != after[1].listed.tolist()
    assert before[2].listed.tolist() != after[2].listed.tolist()


def test_what_comes_later_in_the_tested_slice_changes_no_earlier_rank(weeks):
    whole = walk(np.random.default_rng(1), 30, 12)
    cut = whole.windows(whole.starts[:-1], whole.starts[:-1] + 3)
    first_two = np.tile([True, True, False, False], len(whole))

    assert play(weeks[0], whole)[0].listed[first_two].tolist() == play(weeks[0], cut)[0].listed.tolist()


def test_long_sessions_are_asked_with_their_newest_events(weeks):
    """A prefix longer than the model's window is as good as its newest part."""
    first = weeks[0]
    long = play(first, sequences([9, 1, 2, 3, 4, 5]))[0]
    short = play(first, sequences([1, 2, 3, 4, 5]))[0]

    assert long.model_alone[-1] == short.model_alone[-1]


def test_a_seed_gives_the_same_ranks_again_and_another_seed_others(weeks):
    first = play(*weeks)
    again, other = play(*weeks), play(*weeks, seed=1)

    assert [r.listed.tolist() for r in first] == [r.listed.tolist() for r in again]
    assert [r.listed.tolist() for r in first] != [r.listed.tolist() for r in other]


def test_the_memory_is_bounded(weeks):
    run = Incremental(weeks, SETTINGS, seed=0)
    list(run.play(on_step=lambda _share: None))

    assert len(run._memory) == SETTINGS.memory
