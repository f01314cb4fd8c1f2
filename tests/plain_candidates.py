"""What the compiled loops compute, written for reading: one user, one candidate, one feature at a time."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import torch

from streamrec.model.ranking.features import COUNT_FLOOR, FEATURES
from streamrec.model.retrievers import session, title
from streamrec.model.retrievers.category import CATEGORIES_OF, INTEREST_DECAY
from streamrec.model.retrievers.neighbour import MAX_CANDIDATES, NEIGHBOURS_OF
from streamrec.model.retrievers.popular import PER_HALF_LIFE
from streamrec.model.retrievers.retriever import OWN_ITEMS
from streamrec.model.retrievers.searched import NEAREST
from streamrec.model.retrievers.shelves import ROWS_PER_RANKING
from streamrec.model.retrievers.similar_sessions import (
    BACKWARD_WEIGHT,
    FEWEST_POSTINGS,
    HALF_LIFE_MS,
    POSTINGS,
    REACH,
    REACH_DECAY,
    SESSIONS,
)
from streamrec.model.tables import context_counts
from streamrec.model.tables.neighbour_lists import DISTANCE_DECAY, OTHER_SESSION_WEIGHT, SESSION_GAP_MS
from streamrec.model.tables.popularity import DAY_MS, HALF_LIVES_MS

OF_CATEGORIES_MS = {"popularity_in_category_1d": DAY_MS, "popularity_in_category_7d": 7 * DAY_MS}
"""Half-lives of what is popular in a category, by feature."""

KINDS = {1: "purchased", 3: "in_cart", **dict.fromkeys((4, 5, 6, 7, 9), "favoured")}
AFTER = {"purchased": "after_purchase", "in_cart": "after_cart", "favoured": "after_favour"}
"""What the kinds of events on an item are called, and what the kind of the last event is."""


def find_one(model, context, hidden, *, k=0, withdrawn=(), risen=()):
    """Return the candidates of one user: rows ascending, which own item leads to each, features `(M, F)`."""
    context = context.of_interest
    weights, of_last, leads = _neighbours(model, context)
    strongest = sorted(weights, key=lambda row: (-weights[row], row))[:MAX_CANDIDATES]
    of_sessions = sessions(model, context)
    likely = sorted(of_sessions, key=lambda row: (-of_sessions[row], row))[: session.MAX_CANDIDATES]
    cosines = model.vectors.take(slice(model.size)) @ hidden if hidden.any() else None
    interests = _interests(context)
    strongest_categories = sorted(set(interests) - {0}, key=lambda code: -interests[code])[:CATEGORIES_OF]
    of_categories = [row for code in strongest_categories for row in shelf(model, code)]
    rows = {*popular(model), *risen, *strongest, *likely, *of_categories, *of_words(model, context)}
    if cosines is not None:
        rows |= set(np.argsort(-cosines, kind="stable")[: max(k, NEAREST)].tolist())
    rows = (rows | set(context.rows.tolist())) - set(context.left_out.tolist())
    rows = sorted(row for row in rows if model.ids[row] and row not in withdrawn)
    best = max((cosines[row] for row in rows), default=0.0) if cosines is not None else 0.0
    described = []
    for row in rows:
        values = dict.fromkeys(model.blend.features, 0.0)
        if cosines is not None:
            values |= {"cosine": 2 * cosines[row], "cosine_below_best": 4 * (cosines[row] - best), "knows_user": 1.0}
        values |= _popularity(model, context, row)
        if row in weights:
            values |= {"neighbour": _log_weight(weights[row]), "is_neighbour": 1.0}
            values["neighbour_of_last"] = _log_weight(of_last[row]) if of_last[row] > 0 else 0.0
        if row in of_sessions:
            values |= {"session": _log_weight(of_sessions[row]), "is_of_session": 1.0}
        values |= _own(model, context, row) | _in_category(model, interests, row)
        values |= _compared(
            context, row, "cosine_to", lambda one, other: float(model.vectors.take(one) @ model.vectors.take(other))
        )
        values |= _compared(context, row, "title_like", _Titles(model).cosine) | _in_context(model, context, row)
        described.append([values[name] for name in model.blend.features])
    return rows, [leads.get(row, 0) for row in rows], np.array(described).reshape(len(rows), len(model.blend.features))


def follow(encoder, model, context):
    """Return what the network says of a user, with torch."""
    rows, types, times_ms = (
        each[-encoder.config.max_length :] for each in (context.rows, context.event_types, context.times_ms)
    )
    times_s = ((times_ms - times_ms[0]) / 1000.0).astype(np.float32)
    with torch.inference_mode():
        return encoder(
            torch.from_numpy(model.vectors.take(rows))[None],
            torch.from_numpy(types)[None],
            torch.from_numpy(times_s)[None],
        )[0, -1].numpy()


def popular(model):
    """Return the rows that are among the most popular with any half-life."""
    best = np.argsort(-model.counts[: model.size], axis=0, kind="stable")[:PER_HALF_LIFE]
    return {row for row in best.ravel().tolist() if model.last_ms[row]}


def shelf(model, code):
    """Return the rows of a category that are most popular with each half-life, and those that are newest."""
    own = np.flatnonzero(model.category[: model.size] == code)
    rankings = [model.counts[own, list(HALF_LIVES_MS).index(ms)] for ms in OF_CATEGORIES_MS.values()]
    rankings.append(model.first_ms[own])
    best = [own[np.argsort(-ranking, kind="stable")][:ROWS_PER_RANKING].tolist() for ranking in rankings]
    return [row for rows in best for row in rows]


def _interests(context):
    """Return the share of each category of a user's sequence, latest category first."""
    newest_first = context.categories[::-1].tolist()
    weights = [INTEREST_DECAY**steps for steps in range(len(newest_first))]
    return {
        code: sum(weight for weight, other in zip(weights, newest_first, strict=True) if other == code) / sum(weights)
        for code in dict.fromkeys(newest_first)
    }


def _in_category(model, interests, row):
    """Return how much of the user's sequence is in the category of an item, and its part in how popular that is."""
    category = model.category[row]
    shares = {"category_interest": interests.get(category, 0.0) if category else 0.0}
    own = model.category[: model.size] == category
    for name, half_life_ms in OF_CATEGORIES_MS.items():
        counts = model.counts[: model.size, list(HALF_LIVES_MS).index(half_life_ms)]
        shares[name] = counts[row] / (counts[own].sum() + 1e-6) if category else 0.0
    return {name: math.log(max(share, math.exp(-4.0))) * 0.3 + 1.2 for name, share in shares.items()}


def _neighbours(model, context):
    weights, of_last, leads, best = defaultdict(float), defaultdict(float), {}, {}
    (of_neighbours,) = (each for each in model.retrievers if each.name == "neighbour")
    weight, later_ms, done = 1.0, context.now_ms, []
    for row, time_ms in zip(context.rows[::-1].tolist(), context.times_ms[::-1].tolist(), strict=True):
        if later_ms - time_ms > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = time_ms
        if row and row not in done and len(done) < NEIGHBOURS_OF:
            for other, share in zip(
                of_neighbours.lists.others[row].tolist(), of_neighbours.lists.weights[row].tolist(), strict=True
            ):
                if not other or other >= model.size:
                    continue
                weights[other] += weight * share
                of_last[other] += 0.0 if done else share
                if share >= best.get(other, 0.0):
                    best[other], leads[other] = share, row
            done.append(row)
        weight *= DISTANCE_DECAY
    return weights, of_last, leads


def sessions(model, context):
    """Return the weights of the items of sessions that are similar to the user's latest events, which sum to 1."""
    (channel,) = (each for each in model.retrievers if each.name == "session")
    log = channel.log.latest()[["row", "time_ms", "before"]].tolist()
    of_event, members = [], defaultdict(list)
    for number, (_, _, back) in enumerate(log):
        of_event.append(of_event[number - back] if 0 < back <= number else number)
        members[of_event[-1]].append(number)
    similarities, shared = defaultdict(float), {}
    weight, later_ms, done = 1.0, context.now_ms, []
    for row, time_ms in zip(context.rows[::-1].tolist(), context.times_ms[::-1].tolist(), strict=True):
        if later_ms - time_ms > SESSION_GAP_MS:
            weight *= OTHER_SESSION_WEIGHT
        later_ms = time_ms
        if row and row not in done and len(done) < OWN_ITEMS:
            own = (number for number, event in enumerate(log) if event[0] == row and event[1] != time_ms)
            most = max(FEWEST_POSTINGS, int(POSTINGS * weight))
            posted = sorted(own, reverse=True)[:most]
            since = posted[-1] if len(posted) == most else 0
            for number in posted:
                rarity = math.log1p((len(log) - since) / len(posted))
                age = 0.5 ** (max(context.now_ms - log[number][1], 0) / HALF_LIFE_MS)
                similarities[of_event[number]] += weight * rarity * age
                shared.setdefault(of_event[number], number)
            done.append(row)
        weight *= DISTANCE_DECAY
    found = list(similarities)
    nearest = sorted(found, key=lambda each: (-similarities[each], found.index(each)))[:SESSIONS]
    weights = defaultdict(float)
    for each in nearest:
        at = members[each].index(shared[each])
        for place, number in enumerate(members[each]):
            row, steps = log[number][0], abs(place - at)
            if row and 0 < steps <= REACH and row < model.size:
                direction = 1.0 if place > at else BACKWARD_WEIGHT
                weights[row] += similarities[each] * direction * REACH_DECAY ** (steps - 1)
    total = sum(weights.values())
    return {row: weight / total for row, weight in weights.items()}


def _popularity(model, context, row):
    left = 0.5 ** ((context.now_ms - model.reference_ms) / HALF_LIVES_MS)
    logs = np.log(model.counts[row] * left + COUNT_FLOOR) * 0.3
    return dict(zip(FEATURES[:6], logs, strict=True)) | {
        "age": _log_time(context.now_ms - model.first_ms[row]),
        "silence": _log_time(context.now_ms - model.last_ms[row]),
        "events": math.log1p(model.events[row]) * 0.3,
    }


def _own(model, context, row):
    newest_first = context.rows[::-1].tolist()
    categories = context.categories[::-1].tolist()
    values = {"sequence_length": math.log1p(len(newest_first)) * 0.3}
    session = _session_length(context)
    if newest_first:
        values["session_length"] = math.log1p(session) * 0.3
        values["user_silence"] = _log_time(context.now_ms - context.times_ms[-1])
    if len(newest_first) > 1:
        values["last_gap"] = _log_time(context.times_ms[-1] - context.times_ms[-2])
    if row in newest_first:
        values |= {"repeats": 1.0, "times_seen": math.log(newest_first.count(row))}
        steps = newest_first.index(row)
        values["repeat_recency"] = 1.0 / (1.0 + 0.3 * steps)
        values["repeat_age"] = _log_time(context.now_ms - context.times_ms[-1 - steps])
        values["repeat_of_session"] = float(steps < session)
        values["repeat_of_last"] = float(steps == 0)
    kinds = {KINDS.get(kind) for at, kind in zip(context.rows, context.event_types.tolist(), strict=True) if at == row}
    values |= dict.fromkeys(kinds - {None}, 1.0)
    if newest_first and (last := KINDS.get(int(context.event_types[-1]))):
        values[AFTER[last]] = 1.0
    category = model.category[row]
    if category and category in categories:
        weights = [DISTANCE_DECAY**steps for steps in range(len(categories))]
        same = [weight for weight, other in zip(weights, categories, strict=True) if other == category]
        values |= {"same_category": float(category == categories[0]), "category_share": sum(same) / sum(weights)}
    return values


def own_items(context):
    """Return the user's latest distinct items, newest first."""
    return [each for each in dict.fromkeys(context.rows[::-1].tolist()) if each][:OWN_ITEMS]


class _Titles:
    """The words of titles, weighed by how rare they are."""

    def __init__(self, model):
        self._words = [set(row[row > 0].tolist()) for row in model.words[: model.size]]
        self._size = model.size

    def _idf(self, word):
        return math.log((self._size + 1) / (sum(word in title for title in self._words) + 1))

    def _product(self, one, other):
        return sum(self._idf(word) ** 2 for word in self._words[one] & self._words[other])

    def cosine(self, one, other):
        lengths = self._product(one, one) * self._product(other, other)
        return self._product(one, other) / math.sqrt(lengths) if lengths else 0.0


def of_words(model, context):
    """Return the most popular items with each word in the titles of the user's latest items."""
    found = set()
    for word in {word for row in own_items(context)[: title.WORDS_OF] for word in model.words[row].tolist() if word}:
        having = np.flatnonzero((model.words[: model.size] == word).any(axis=1))
        best = np.argsort(-model.counts[having, title.HALF_LIFE], kind="stable")[: title.ROWS_PER_WORD]
        found.update(having[best].tolist())
    return found


def _compared(context, row, name, cosine):
    """Return the cosines of an item and the user's last, nearest and recent other items."""
    cosines = {steps: cosine(row, each) for steps, each in enumerate(own_items(context)) if each != row}
    if not cosines:
        return {}
    weights = [0.8**steps for steps in cosines]
    return {
        f"{name}_last": cosines[min(cosines)],
        f"{name}_nearest": max(cosines.values()),
        f"{name}_recent": float(np.average(list(cosines.values()), weights=weights)),
    }


def _in_context(model, context, row):
    """Return how much more often an item is chosen in the user's contexts than anywhere, as logarithms."""
    (table,) = (each.table for each in model.retrievers if each.name == "context")
    decay = 0.5 ** ((context.now_ms - table.reference_ms) / context_counts.HALF_LIFE_MS)

    def count(code, row):
        return float(table.counts[context_counts.place_of(code, row)])

    ratios = []
    for code in context.codes[context.codes > 0].tolist():
        expected = decay * count(0, row) * count(code, 0) / count(0, 0)
        ratios.append(math.log((decay * count(code, row) + 1) / (expected + 1)))
    return {"context": sum(ratios) / 2, "context_most": max(ratios), "context_least": min(ratios)} if ratios else {}


def _session_length(context):
    """Return how many of the newest events have no pause of half an hour after them."""
    later_ms = np.append(context.times_ms[1:], context.now_ms)[: len(context.rows)]
    pauses = np.flatnonzero(later_ms - context.times_ms > SESSION_GAP_MS)
    return len(context.rows) - (pauses[-1] + 1 if len(pauses) else 0)


def _log_weight(weight):
    return (math.log(weight + 1e-3) + 7.0) * 0.2


def _log_time(ms):
    return math.log1p(max(ms, 0) / 60_000.0) * 0.15
