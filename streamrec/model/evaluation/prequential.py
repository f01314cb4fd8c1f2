"""Prequential evaluation: recommend, score, then learn, in the order of the stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import InterestState
from streamrec.model.popularity import HALF_LIVES_MS
from streamrec.model.ranker import ModelRanker
from streamrec.model.sequence_model import ModelConfig
from streamrec.model.trainer import Trainer

TYPES = {"view": 0, "click": 0, "favourite": 0, "add_to_cart": 0, "rating": 0, "purchase": 1}


def read(path: Path, limit: int) -> Iterator[Event]:
    t = pq.read_table(path)
    cats = {}
    items = path.parent / "items.parquet"
    if items.exists():
        it = pq.read_table(items)
        if "category" in it.schema.names:
            cats = {str(i): str(c) for i, c in zip(it["item_id"].to_pylist(), it["category"].to_pylist())}
    n = 0
    for u, i, e, ts in zip(
        t["user_id"].to_pylist(), t["item_id"].to_pylist(), t["event_type"].to_pylist(), t["timestamp"].to_pylist()
    ):
        if e not in TYPES:
            continue
        yield Event(str(u), str(i), ts, Source(EventType(TYPES[e]), 0), n, None, cats.get(str(i), ""))
        n += 1
        if n >= limit:
            return


def run(path: Path, limit: int, hide_seen: bool, batch=64, length=50, seed=0, report_every=20000):
    torch.set_num_threads(1)
    trainer = Trainer(
        ModelConfig(max_length=length),
        hide_seen=hide_seen,
        device=torch.device("cpu"),
        seed=seed,
        checkpoints=Path("/tmp/nonexistent-checkpoints"),
    )
    ranker = ModelRanker(hide_seen=hide_seen)
    states: dict[str, InterestState] = {}
    interests: dict[str, UserInterest] = {}
    waiting = []
    lists = {}
    hits = []
    pops = []
    cold = []
    reachable = []
    t_rank = t_train = t_apply = 0.0
    half = [1, 2, 3, 4]
    n = 0
    last_print = 0
    for event in read(path, limit):
        interest = interests.get(event.user_id)
        k = 10
        t0 = time.thread_time()
        items = lists.get(event.user_id) or ranker.default(k=k)
        t_rank += time.thread_time() - t0
        ids = [i.item_id for i in items]
        hits.append(event.item_id in ids)
        cold.append(interest is None)
        # popularity baselines from the trainer's own counts, up to date to the event
        pop = trainer.items.popularity
        voc = trainer.items.vocabulary
        pops.append(baseline(event, interest, hide_seen))
        state = states.setdefault(event.user_id, InterestState())
        state.fold(event, sequence_length=length)
        state.version += 1
        interest = UserInterest(
            user_id=event.user_id,
            state_version=state.version,
            event_time_ms=state.sequence[-1].event_time_ms,
            produced_at_ms=n,
            sequence=list(state.sequence),
            new=[EventPosition(event.source.event_type, 0, event.offset)],
            short_term={},
            long_term={},
            long_term_items={},
            transitions=[],
            events_count=state.events_count,
        )
        interests[event.user_id] = interest
        t0 = time.thread_time()
        lists[event.user_id] = ranker.rank([interest], k=k)[0]
        t_rank += time.thread_time() - t0
        waiting.append(interest)
        n += 1
        BASE.add(event)
        if len(waiting) >= batch:
            t0 = time.thread_time()
            trainer.train(waiting, behind=0)
            records = trainer.take_update()
            t1 = time.thread_time()
            for r in records:
                ranker.apply_update(r)
            t2 = time.thread_time()
            t_train += t1 - t0
            t_apply += t2 - t1
            waiting = []
        if n - last_print >= report_every:
            last_print = n
            h = np.array(hits)
            p = np.array(pops)
            c = np.array(cold)
            w = slice(n - report_every, n)
            print(
                n,
                "hit",
                h.mean().round(4),
                "pop",
                p.mean(0).round(4),
                "| window",
                h[w].mean().round(4),
                p[w].mean(0).round(4),
                "warm",
                h[~c].mean().round(4),
                p[~c].mean(0).max().round(4),
                "rank ms",
                round(1e3 * t_rank / n, 3),
                "train ms",
                round(1e3 * t_train / n, 3),
                "apply",
                round(1e3 * t_apply / n, 3),
                "items",
                len(trainer.items),
                flush=True,
            )
    h = np.array(hits)
    p = np.array(pops)
    print(
        "FINAL",
        path.parent.name,
        "hide" if hide_seen else "show",
        n,
        "hit",
        h.mean().round(4),
        "pop",
        p.mean(0).round(4),
        "last80",
        h[n // 5 :].mean().round(4),
        p[n // 5 :].mean(0).round(4),
        "train ms",
        round(1e3 * t_train / n, 3),
        "rank ms",
        round(1e3 * t_rank / n, 3),
        flush=True,
    )
    return trainer


class Base:
    """Recent popularity, exact to the event."""

    H = [3.6e6, 6 * 3.6e6, 24 * 3.6e6, 7 * 24 * 3.6e6]

    def __init__(self):
        self.idx = {}
        self.ids = []
        self.c = np.zeros((1024, 4))
        self.ref = None
        self.top = None
        self.n = 0

    def add(self, e):
        i = self.idx.get(e.item_id)
        if i is None:
            i = self.idx[e.item_id] = len(self.ids)
            self.ids.append(e.item_id)
            if i >= len(self.c):
                self.c = np.concatenate([self.c, np.zeros_like(self.c)])
        if self.ref is None:
            self.ref = e.event_time_ms
        d = (e.event_time_ms - self.ref) / np.array(self.H)
        if d[0] > 40:
            self.c *= 2.0**-d
            self.ref = e.event_time_ms
            d[:] = 0
        self.c[i] += 2.0**d
        self.n += 1
        if self.n % 16 == 0 or self.n < 1000:
            self.top = None

    def lists(self):
        if self.top is None:
            c = self.c[: len(self.ids)]
            n = min(80, len(c))
            self.top = []
            for h in range(4):
                t = np.argpartition(-c[:, h], n - 1)[:n] if n else np.zeros(0, int)
                t = t[np.argsort(-c[t, h])]
                self.top.append([self.ids[j] for j in t])
        return self.top


BASE = Base()


def baseline(event, interest, hide_seen):
    seen = {e.item_id for e in interest.sequence} if interest and hide_seen else ()
    out = []
    for t in BASE.lists():
        left = [i for i in t[:70] if i not in seen][:10]
        out.append(event.item_id in left)
    return out


if __name__ == "__main__":
    import sys

    run(Path(sys.argv[1]), int(sys.argv[2]), hide_seen=sys.argv[3] == "hide")
