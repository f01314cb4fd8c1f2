"""Measures how long lists take, in total and by channel: `python tests/lists_time.py [ITEMS] [USERS]`.

To compare two builds, run it in turns in a checkout of each on the same machine.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import msgspec
import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.candidates import find
from streamrec.model.ranking.context import make_context
from streamrec.model.ranking.lists import Prior, best_lists, warm_up
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.item_lists import ItemLists
from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.tables.content import BUCKETS, MAX_PARTS
from streamrec.model.tables.popularity import HALF_LIVES_MS
from streamrec.model.tables.session_log import MAX_EVENTS
from streamrec.model.threads import limit_threads

NOW_MS = 1_760_000_000_000
BATCHES, WARM_UP = 60, 10
DIM, K, NEIGHBOURS, CATEGORIES, LONGEST = 64, 100, 32, 500, 50
PARTS = "all candidates and features", "blend", "best 100 with reasons"


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def words_of(items, rng):
    """Return titles of two to eight words, some of which many items share."""
    content = np.minimum(rng.zipf(1.2, (items, MAX_PARTS)), BUCKETS - 1)
    content[np.arange(MAX_PARTS) >= rng.integers(2, MAX_PARTS + 1, items)[:, None]] = 0
    return content.astype(np.uint16)


def popularity_of(items, rng):
    """Return counts that are about as high for each half-life."""
    overall = 1_000.0 * rng.permutation(1.0 / np.arange(1, items + 1))
    return (overall[:, None] * rng.uniform(0.5, 2.0, (items, len(HALF_LIVES_MS)))).astype(np.float32)


def model_of(items, rng):
    """Return a version with random contents."""
    ids = ["", *(f"i{row}" for row in range(1, items))]
    model = ServingModel(
        ids=ids,
        rows={item_id: row for row, item_id in enumerate(ids) if item_id},
        size=items,
        vectors=ItemVectors.of(unit(rng.standard_normal((items, DIM), np.float32))),
        counts=popularity_of(items, rng),
        first_ms=NOW_MS - rng.integers(1, 10**9, items),
        last_ms=NOW_MS - rng.integers(1, 10**8, items),
        events=rng.integers(1, 1_000, items),
        category=rng.integers(0, CATEGORIES, items) * 7_919,
        words=words_of(items, rng),
        reference_ms=NOW_MS,
    )
    shares = rng.random((items, NEIGHBOURS), np.float32)
    for retriever in model.retrievers:
        if retriever.name == "neighbour":
            others = rng.integers(1, items, (items, NEIGHBOURS)).astype(np.int32)
            retriever.lists = ItemLists(others, shares / shares.sum(1, keepdims=True))
        if retriever.name == "session":
            events = np.arange(MAX_EVENTS)
            # sessions of four events
            rows = np.minimum(rng.zipf(1.3, MAX_EVENTS), items - 1)
            retriever.log = retriever.log.extended(
                rows, NOW_MS - 1_000 * events[::-1], (events % 4 > 0).astype(np.int64)
            )
    return model


def timed(function, spent, name):
    """Return the function, adding its duration to `spent`."""

    def call(*arguments):
        started_s = time.perf_counter()
        result = function(*arguments)
        spent[name] += time.perf_counter() - started_s
        return result

    return call


def main(items=46_000, users=16):
    """Print medians over all batches, in microseconds per list."""
    limit_threads()
    rng = np.random.default_rng(1)
    model = model_of(items, rng)
    warm_up()
    prior = Prior({}, -9.0)
    spent = defaultdict(float)
    for retriever in model.retrievers:
        retriever.find = timed(retriever.find, spent, retriever.name)
        retriever.describe = timed(retriever.describe, spent, retriever.name)
    rows = []
    for batch in range(BATCHES + WARM_UP):
        lengths = rng.integers(1, LONGEST, users)
        contexts = [
            make_context(
                model,
                [
                    # as popular as in the log
                    SequenceEvent(NOW_MS - 60_000 * (length - at), 0, 0, at, f"i{min(rng.zipf(1.3), items - 1)}", "")
                    for at in range(length)
                ],
            )
            for length in lengths.tolist()
        ]
        hidden = unit(rng.standard_normal((users, DIM), np.float32))
        spent.clear()
        times_s = [time.perf_counter()]
        found = find(model, contexts, hidden)
        times_s.append(time.perf_counter())
        scores = model.blend.scores(found.features)
        times_s.append(time.perf_counter())
        lists = best_lists(model, found, scores, K, prior)
        times_s.append(time.perf_counter())
        if batch >= WARM_UP:
            rows.append([*np.diff(times_s), *(spent[each.name] for each in model.retrievers)])
    medians = np.median(rows, axis=0) / users * 1e6
    names = [*PARTS, *(f"channel {each.name}" for each in model.retrievers)]
    for name, median in zip(["total", *names], [medians[:3].sum(), *medians], strict=True):
        print(f"{name:30} {median:7.0f} us a list")  # noqa: T201  # its purpose
    size = np.mean([len(msgspec.json.encode(items)) for items in lists])
    print(f"{'items of a list':30} {size:7.0f} bytes")  # noqa: T201  # its purpose


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
