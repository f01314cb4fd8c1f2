"""Makes lists from interests: retrieves candidates, ranks them, and adds reasons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, islice
from operator import is_not
from threading import Lock
from typing import NamedTuple

import msgspec
import numpy as np
import structlog

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason, unpack_scores
from streamrec.domain.feedback import is_interest
from streamrec.domain.interest import SequenceEvent
from streamrec.errors import BadRecordError
from streamrec.model.ranking.beyond import StreamCounts, Untouched
from streamrec.model.ranking.candidates import Described, encode, find
from streamrec.model.ranking.context import Context, make_context
from streamrec.model.ranking.lists import NEVER, Prior, best_lists, filled, most_popular, warm_up
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.ranking.updates import UpdateReader
from streamrec.model.tables.popularity import CONTROL_HALF_LIFE, share_of
from streamrec.model.threads import limit_threads
from streamrec.service.list_marks import Knowledge
from streamrec.service.withdrawn import MAX_WITHDRAWN

MAX_RECENT_EVENTS = 8_192
"""Maximum number of events counted in addition to a version until the next one has learned them."""

MAX_RISEN = 256
"""Number of their latest rows that are candidates for every user."""

MAX_SCORES = 8_000_000
"""Maximum of users times items per batch: 32 MiB of scores."""

_log = structlog.get_logger(__name__)


class _Later(NamedTuple):
    """An event newer than the serving version, with its production time and weight."""

    produced_at_ms: int
    event: SequenceEvent
    share: float


class ModelRanker:
    """Ranks by the latest complete model version; before the first one, by popularity among the users it has served.

    Popularity is fresher than the version: events of served users count immediately. Any thread may rank while another
    one applies updates: all weights of a version are replaced together.

    Parameters
    ----------
    hide_seen
        Whether lists exclude seen items: those in the sequence, and known earlier ones. Only a list that would
        otherwise be empty contains them.
    """

    def __init__(self, *, hide_seen: bool) -> None:
        self.hide_seen = hide_seen
        self._base = ServingModel()
        """The serving version as received."""
        self._model = self._base
        """The same with the newest events counted, too."""
        self._reader = UpdateReader()
        self._knowledge, self._learned_ms = Knowledge(contains={}), 0
        """What the serving version has learned, and the production time of its newest event."""
        self._withdrawn: dict[str, None] = {}
        self._withdrawn_changes = 0
        self._withdrawn_rows: tuple[int, ServingModel, np.ndarray] = (-1, self._model, np.zeros(0, np.int64))
        self._stream, self._untouched = StreamCounts(), Untouched()
        """Items unknown to the serving version."""
        self._lock = Lock()
        self._recent: dict[tuple[int, int, int], _Later] = {}
        """Events that the serving version has not learned, by source position."""
        self._risen: dict[int, None] = {}
        """Their rows."""
        self._prior: Prior | None = None
        warm_up()
        limit_threads()

    @property
    def model_version(self) -> str:
        """The serving version, empty before the first."""
        return self._model.version

    @property
    def newest_event_time_ms(self) -> int:
        """Event time of the newest event that the serving version has learned, 0 before the first."""
        return self._base.newest_event_ms

    @property
    def newest_produced_at_ms(self) -> int:
        """Production time of the newest event that the serving version has learned."""
        return self._learned_ms

    @property
    def knowledge(self) -> Knowledge:
        """What the serving version has learned; versions that start to serve later have learned at least as much."""
        return self._knowledge

    @property
    def vocabulary(self) -> tuple[int, int]:
        """Number of items that can be listed: known to the serving version, and others."""
        # of the ranking model: the rows of withdrawn items are cached for one model at a time
        model = self._model
        known = int(model.in_use.sum()) - len(self._withdrawn_in(model))
        return known, len(self._stream) + len(self._untouched)

    def apply_update(self, value: bytes) -> str:
        """Apply one record of `model-updates`; a version serves once it is complete.

        Returns
        -------
        str
            Why the record, or the version it completes, was refused; empty if accepted.
        """
        try:
            base = self._reader.apply(value, self._base)
        except BadRecordError as error:
            _log.error("model update refused", because=str(error))
            return error.reason
        if base is None:
            return ""
        learned = self._reader.learned
        begun = _begun(self._base, base)
        with self._lock:
            self._stream.forget(begun)
            self._untouched.forget(begun)
            self._base, self._model, self._risen = base, base.countable(), {}
            # the version includes everything produced up to then; later events are counted in addition
            self._learned_ms = learned.newest_produced_at_ms
            self._recent = {
                position: later for position, later in self._recent.items() if later.produced_at_ms > self._learned_ms
            }
            self._count(list(self._recent.values()))
            # last: callers that read this before ranking must not see a version that does not rank yet
            self._knowledge = Knowledge(base.version, learned.events, learned.contains, learned.rollbacks)
        return ""

    def put_item(self, item: Item) -> None:
        """Update an item's metadata from the catalogue."""
        if not item.available:
            self.delete_item(item.item_id)
            return
        if item.item_id in self._withdrawn:
            del self._withdrawn[item.item_id]
            self._withdrawn_changes += 1
        if not self._base.row(item.item_id) and item.item_id not in self._stream:
            self._untouched.put(item.item_id)

    def delete_item(self, item_id: str) -> None:
        """Exclude an item from all future lists."""
        self._withdrawn[item_id] = None
        if len(self._withdrawn) > MAX_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        self._withdrawn_changes += 1
        self._untouched.forget([item_id])

    def forget_catalogue(self) -> None:
        """Clear the catalogue."""
        self._withdrawn = {}
        self._withdrawn_changes += 1
        self._untouched.clear()

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        """Return the best items of each user, best first, at most `k`; never empty once any event was seen."""
        if not interests:
            return []
        model = self._serving(interests)
        if model.version and self._prior is None:
            self.default(k=k)
        return self._rank(model, [self._context(model, interest) for interest in interests], interests, k)

    def candidates(self, interests: Sequence[UserInterest], *, k: int) -> tuple[ServingModel, Described]:
        """Return the candidates that lists of these users are made of, and the version that they are from."""
        model = self._serving(interests)
        return model, self._find(model, [self._context(model, interest) for interest in interests], k)

    def count(self, interest: UserInterest) -> None:
        """Count the new events of a user without making a list."""
        self._serving([interest])

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        """Return recently popular items of each user under the same rules, for the control arm."""
        model = self._serving(interests)
        contexts = [self._context(model, interest) for interest in interests]
        return [
            self._popular(model, context, interest, k) or self._popular(model, make_context(model, []), None, k)
            for context, interest in zip(contexts, interests, strict=True)
        ]

    def _context(self, model: ServingModel, interest: UserInterest) -> Context:
        hidden = interest.disliked_before + (interest.seen_before if self.hide_seen else [])
        return make_context(model, interest.sequence, hide_seen=self.hide_seen, hidden=hidden)

    def default(self, *, k: int) -> ListedItems:
        """Return the list for unknown users."""
        model = self._serving(())
        items = self._rank(model, [make_context(model, [])], [None], k)[0]
        if not model.version:
            return items
        scores = unpack_scores(items.scores)
        self._prior = Prior(dict(zip(items.ids, scores, strict=True)), scores[-1] if scores else 0.0)
        return msgspec.structs.replace(items, priors=items.scores)

    def _serving(self, interests: Sequence[UserInterest]) -> ServingModel:
        if not self._base.version:
            return self._stream.learn(interests)
        with self._lock:
            self._note([interest for interest in interests if interest.produced_at_ms > self._learned_ms])
            return self._model

    def _note(self, interests: Sequence[UserInterest]) -> None:
        """Count the new events of users once, even if ranked several times."""
        later = []
        for interest in interests:
            for index in interest.new_indices():
                event = interest.sequence[index]
                position = (abs(event.event_type), event.partition, event.offset)
                if is_interest(event.event_type) and position not in self._recent:
                    share = share_of(interest.sequence, index, is_whole=interest.is_whole)
                    self._recent[position] = _Later(interest.produced_at_ms, event, share)
                    later.append(self._recent[position])
        self._count(later)
        if unknown := [each for each in later if not self._base.row(each.event.item_id)]:
            self._stream.count([(each.event, each.share) for each in unknown])
            self._untouched.forget(each.event.item_id for each in unknown)
        while len(self._recent) > MAX_RECENT_EVENTS:
            del self._recent[next(iter(self._recent))]

    def _count(self, later: Sequence[_Later]) -> None:
        model = self._model
        known = [(row, event.event_time_ms, share) for _, event, share in later if (row := model.row(event.item_id))]
        if known:
            rows, times_ms, shares = zip(*known, strict=True)
            model.count(rows, times_ms, shares)
            self._risen.update(dict.fromkeys(rows))

    def _withdrawn_in(self, model: ServingModel) -> np.ndarray:
        """Return the rows of withdrawn items, distinct."""
        changes, of_model, rows = self._withdrawn_rows
        if changes != self._withdrawn_changes or of_model is not model:
            changes = self._withdrawn_changes
            # list() is atomic: the catalogue may change in another thread meanwhile
            rows = np.unique(np.array([model.row(item_id) for item_id in list(self._withdrawn)], np.int64))
            rows = rows[rows > 0]
            self._withdrawn_rows = (changes, model, rows)
        return rows

    def _rank(
        self,
        model: ServingModel,
        contexts: Sequence[Context],
        interests: Sequence[UserInterest | None],
        k: int,
    ) -> list[ListedItems]:
        together = max(1, MAX_SCORES // model.size)
        parts = [contexts[start : start + together] for start in range(0, len(contexts), together)]
        lists = [items for part in parts for items in self._rank_together(model, part, k)]
        return [
            items
            if len(items) == k
            else filled(items, self._popular(model, context, interest, k), k)
            or self._popular(model, make_context(model, []), None, k)
            for items, context, interest in zip(lists, contexts, interests, strict=True)
        ]

    def _rank_together(self, model: ServingModel, contexts: Sequence[Context], k: int) -> list[ListedItems]:
        found = self._find(model, contexts, k)
        return best_lists(model, found, model.blend.scores(found.features), k, self._prior)

    def _find(self, model: ServingModel, contexts: Sequence[Context], k: int) -> Described:
        return find(
            model,
            contexts,
            encode(model, contexts),
            k=k,
            withdrawn=self._withdrawn_in(model),
            risen=np.array(list(self._risen)[-MAX_RISEN:], np.int64),
        )

    def _popular(self, model: ServingModel, context: Context, interest: UserInterest | None, k: int) -> ListedItems:
        """Return popular items, then items unknown to the version, for a user or for everyone."""
        counts = model.counts[: model.size, CONTROL_HALF_LIFE].copy()
        counts[~model.in_use] = NEVER
        counts[self._withdrawn_in(model)] = NEVER
        counts[context.left_out] = NEVER
        items = most_popular(model, counts, k)
        return items if len(items) == k else filled(items, self._beyond(items, interest, k), k)

    def _beyond(self, items: ListedItems, interest: UserInterest | None, k: int) -> ListedItems:
        """Return items unknown to the version: first those of the stream, most popular first."""
        hidden = set(items.ids)
        if interest is not None:
            hidden.update(interest.hidden(seen=self.hide_seen))
        missing = k - len(items)
        may_be = (each for each in self._stream.ranked() if each not in hidden and each not in self._withdrawn)
        of_stream = list(islice(may_be, missing))
        hidden.update(of_stream)
        of_catalogue = self._untouched.newest(missing - len(of_stream), but=hidden)
        named = [(item_id, "popular") for item_id in of_stream] + [(item_id, "recent") for item_id in of_catalogue]
        return ListedItems.of([ListItem(item_id, 0.0, Reason(channel)) for item_id, channel in named])


def _begun(before: ServingModel, after: ServingModel) -> list[str]:
    """Return the items with a row in a version that had a different one, or none, before."""
    begun = after.ids[before.size : after.size]
    if after.ids is not before.ids:  # rows were reassigned, or the version is a snapshot
        begun += compress(after.ids, map(is_not, before.ids[: before.size], after.ids))
    return begun
