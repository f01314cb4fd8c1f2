from __future__ import annotations

import numpy as np
from builders import sequences

from streamrec.evaluation.sequences import Sequences, batches, from_groups, newest, pieces


def lists(of: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(of.rows, of.starts[1:-1])]


def test_groups_keep_the_order_of_their_events():
    found, groups = from_groups(np.array([7, 3, 7, 3, 7]), np.array([1, 2, 3, 4, 5]), np.array([0, 10, 20, 30, 50.0]))

    assert lists(found) == [[2, 4], [1, 3, 5]]
    assert groups.tolist() == [3, 7]
    assert found.times_s.tolist() == [0, 20, 0, 20, 50]


def test_windows_begin_at_time_zero():
    cut = sequences([1, 2, 3], [4, 5, 6]).windows(np.array([1, 3]), np.array([3, 5]))

    assert lists(cut) == [[2, 3], [4, 5]]
    assert cut.times_s.tolist() == [0, 1, 0, 1]


def test_without_last_leaves_short_sequences_empty():
    assert lists(sequences([1, 2, 3], [4]).without_last(2)) == [[1], []]


def test_newest_keeps_the_end_and_what_has_a_target():
    assert lists(newest(sequences([1, 2, 3, 4], [5]), 3)) == [[2, 3, 4]]


def test_pieces_make_every_event_but_the_first_a_target_once():
    rng = np.random.default_rng(0)
    whole = sequences(list(range(1, 38)), [50, 51], [60])
    for _ in range(20):
        cut = lists(pieces(whole, 8, rng))

        assert max(map(len, cut)) <= 8
        assert sorted(row for piece in cut for row in piece[1:]) == [*range(2, 38), 51]
        assert all(piece == list(range(piece[0], piece[0] + len(piece))) for piece in cut)


def test_padding_is_no_target_and_neither_is_the_first_event():
    padded = sequences([1, 2, 3], [4, 5]).padded(np.array([0, 1]))

    assert padded.rows.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert padded.weights.tolist() == [[0, 1, 1], [0, 1, 0]]


def test_batches_hold_every_sequence_once():
    lengths = np.random.default_rng(1).integers(1, 60, 500)
    found = list(batches(lengths, 256, np.random.default_rng(2)))

    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert max(lengths[batch].sum() for batch in found) <= 256 + 60
