"""The `recall` use case: every new interest state of a user becomes a fresh top-K list.

Of several states of one user in a batch only the newest is ranked: under load lists get a little older, never wrong.
Lists are written to the store while they are being sent to Kafka, and the positions move when both have them. So after
a crash lists are made again and none is missing: a list made again replaces itself, since it comes from the same state
or a newer one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog

from streamrec.contracts.decode import decode_interest
from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.headers import traced
from streamrec.contracts.topics import ITEMS, MODEL_UPDATES, RECOMMENDATIONS
from streamrec.domain.arms import PERSONAL
from streamrec.errors import BadRecordError, TransientError
from streamrec.service.batch import Batch, Positions, Record, positions_of
from streamrec.service.item_records import KnownItems, read_item_record
from streamrec.service.list_marks import Knowledge, Made, Mark, is_tolerable, is_undone, lacking, marks_of
from streamrec.service.list_ports import EncodedList, TopKStore
from streamrec.service.list_record import list_record
from streamrec.service.make_lists import ListMaker, list_id
from streamrec.service.ports import Delivery, Publisher
from streamrec.service.tally import Tally
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange

DEFAULT_LIST_AGE_S = 0.1
"""Minimum interval between updates of the default list, which takes half a millisecond."""

_log = structlog.get_logger(__name__)


class _Begun(NamedTuple):
    """A batch whose lists are being sent: they are not made and sent again while only the store is unavailable."""

    batch: Batch
    lists: list[TopKList]
    encoded: list[EncodedList]
    shortened: int
    knowledge: Knowledge
    """What the version knew that made them."""
    delivery: Delivery
    refused: Counter[tuple[str, str]]


class _Unmarked(NamedTuple):
    """An applied batch, with withdrawals that the store may not have yet."""

    batch: Batch
    change: WithdrawnChange


class RefreshTopK:
    """Turns interest states into lists.

    Parameters
    ----------
    store, publisher
        Destinations of lists.
    maker
        Makes them.
    monotonic_s
        Clock for the interval of the default list.
    """

    def __init__(
        self,
        store: TopKStore,
        publisher: Publisher,
        maker: ListMaker,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._maker = maker
        self._ranker, self._top_k, self._now_ms = maker.ranker, maker.top_k, maker.now_ms
        self._monotonic_s = monotonic_s
        self.ends: dict[int, int] = {}
        """Offset below which lists were made here, by partition of `user-interests`."""
        self._newest_event_time_ms = 0
        self._newest_produced_at_ms = 0
        self._default_made_s = float("-inf")
        self._default_is_stale = False
        self._withdrawn = Withdrawn()
        """Items that are to be marked in the store."""
        self._marks_changes = False
        """Whether withdrawals are marked immediately: only once the topic has been read, since the first records are
        old."""
        self._known = KnownItems()
        self._begun: _Begun | None = None
        self._unmarked: _Unmarked | None = None
        self.tally = Tally()
        """Counts of the last batch."""
        self.learned = Tally()
        """Counts of the last batch of the broadcast topics."""

    def handle(self, batch: Batch) -> Positions:
        """Make the lists of a batch of `user-interests`, and return the store's position of each of its sources.

        Raises
        ------
        TransientError
            If the store or the broker is unavailable; the same batch can be handed in again.
        """
        self.tally = Tally()
        if self._begun is None or self._begun.batch is not batch:
            self._begun = self._begin(batch)
        begun = self._begun
        self.tally.refused = begun.refused
        written = self._store.put_lists(begun.encoded, batch.slices)
        try:
            begun.delivery.wait()
        except TransientError:
            self._begun = None  # the lists are made and sent again
            raise
        written = written and self._store.advance(batch.slices, self._marks(begun.lists, begun.knowledge))
        # not earlier: while only the store is unavailable, nothing is sent again
        self._begun = None
        if not written:
            return positions_of(batch.slices, self._store.positions([part.source for part in batch.slices]))
        for topk in begun.lists:
            self._newest_event_time_ms = max(self._newest_event_time_ms, topk.event_time_ms)
            self._newest_produced_at_ms = max(self._newest_produced_at_ms, topk.produced_at_ms)
        self.tally.outcomes["lists"] = len(begun.lists)
        if begun.refused:
            self.tally.outcomes["refused"] = begun.refused.total()
        if shortened := begun.shortened:
            self.tally.shortened[RECOMMENDATIONS] = shortened
        self.tally.produced_at_ms = [topk.produced_at_ms for topk in begun.lists]
        self._default_is_stale = True
        if self._monotonic_s() - self._default_made_s >= DEFAULT_LIST_AGE_S:
            try:
                self.refresh_default()
            except TransientError as error:  # the batch is complete and must not be repeated for this
                _log.warning("the default list waits for a later batch", because=str(error))
        return {part.source: part.next for part in batch.slices}

    def _begin(self, batch: Batch) -> _Begun:
        """Make the lists of a batch, and start sending them to Kafka."""
        newest, refused = _newest_by_user(batch)
        self.ends |= {part.source.partition: part.next for part in batch.slices}
        # read before ranking, like the version
        knowledge = self._ranker.knowledge
        lists = self._maker.make([interest for interest, _ in newest.values()])
        room = self._publisher.room(RECOMMENDATIONS)
        records, shortened = [], 0
        for topk in lists:
            record, left_out = list_record(topk, traced(newest[topk.user_id][1]), room)
            records.append(record)
            shortened += left_out > 0
        encoded = [
            EncodedList(topk.user_id, topk.state_version, record.value or b"", bool(topk.hidden))
            for topk, record in zip(lists, records, strict=True)
        ]
        return _Begun(batch, lists, encoded, shortened, knowledge, self._publisher.start(records), refused)

    def _marks(self, lists: Sequence[TopKList], knowledge: Knowledge) -> list[Mark]:
        is_short = any(len(topk.items) < self._top_k for topk in lists)
        tolerable = is_tolerable(knowledge.events, lacking(knowledge, self.ends))
        tolerable = tolerable and not is_undone(knowledge, self._ranker.knowledge)
        return marks_of(
            lists,
            # never complete: the stream may have more events than were read here
            made=Made.BEHIND if tolerable else Made.POOR,
            knowledge=knowledge,
            top_k=self._top_k,
            items=sum(self._ranker.vocabulary) if is_short else 0,
        )

    def refresh_default(self) -> None:
        """Update the default list, if anything happened since it was made."""
        if not self._default_is_stale:
            return
        # cleared first: events during ranking make it stale again
        self._default_is_stale = False
        self._default_made_s = self._monotonic_s()
        try:
            self._store.put_default(self._make_default())
        except TransientError:
            self._default_is_stale = True
            raise

    def learn(self, batch: Batch) -> None:
        """Apply a batch of the broadcast topics, `items` and `model-updates`.

        Raises
        ------
        TransientError
            If the store is unavailable; the same batch can be handed in again, and only the write is repeated.
        """
        if self._unmarked is None or self._unmarked.batch is not batch:
            self._unmarked = self._take_in(batch)
        if self._marks_changes and self._unmarked.change:
            self._store.mark_items(self._unmarked.change)
        self._unmarked = None

    def _take_in(self, batch: Batch) -> _Unmarked:
        withdrawn: dict[str, int] = {}
        available: dict[str, None] = {}
        version = self._ranker.model_version
        self.learned = Tally()
        for source, record in batch:
            if source.topic == ITEMS:
                self._learn_item(record, withdrawn, available)
            elif record.value is not None and (reason := self._ranker.apply_update(record.value)):
                self.learned.refused[MODEL_UPDATES, reason] += 1
        if self.learned.last_refusal:
            _log.warning("records refused", count=self.learned.refused.total(), last_item=self.learned.last_refusal)
        change = self._withdrawn.change(withdrawn, list(available))
        if change or self._ranker.model_version != version:
            self._default_is_stale = True
        return _Unmarked(batch, change)

    def forget_catalogue(self) -> None:
        """Clear the catalogue: `items` was re-created, and is read from its beginning.

        Nothing is marked until :meth:`mark_all` is called again.
        """
        self._ranker.forget_catalogue()
        self._withdrawn, self._known = Withdrawn(), KnownItems()
        self._marks_changes = False
        self._default_is_stale = True

    def mark_all(self) -> None:
        """Set the marks of all withdrawn items, once the catalogue has been read and then periodically.

        A crashed store may have lost its latest marks, which no record would restore.
        """
        self._store.replace_marks(self._withdrawn)
        self._marks_changes = True

    def _learn_item(self, record: Record, withdrawn: dict[str, int], available: dict[str, None]) -> None:
        change = read_item_record(record, self.learned)
        for item_id in change.gone:
            self._ranker.delete_item(item_id)
        gone = change.gone
        if change.put is not None:
            self._ranker.put_item(change.put)
            self._known.add(change.put.item_id)
            if change.put.available:
                available[change.put.item_id] = None
                withdrawn.pop(change.put.item_id, None)
            else:
                gone = (change.put.item_id,)
        for item_id in gone:
            withdrawn[item_id] = record.timestamp_ms
            available.pop(item_id, None)
        # only once everything was read: a compacted log may have kept just the deletion
        if change.is_deletion and self._marks_changes and not any(item_id in self._known for item_id in gone):
            self.learned.outcomes["unknown-deletion"] += 1
            _log.warning("deletion of an unknown item", key=repr(record.key)[:80], offset=record.offset)

    def _make_default(self) -> TopKList:
        version, made_at_ms = self._ranker.model_version, self._now_ms()
        # a worker that has just started has what the version has learned
        self._newest_event_time_ms = max(self._newest_event_time_ms, self._ranker.newest_event_time_ms)
        return TopKList(
            state_version=0,
            list_id=list_id("", made_at_ms),
            user_id="",
            items=self._ranker.default(k=self._top_k),
            model_version=version,
            arm=PERSONAL,
            event_time_ms=self._newest_event_time_ms,
            produced_at_ms=self._newest_produced_at_ms,
            made_at_ms=made_at_ms,
        )


def _newest_by_user(
    batch: Batch,
) -> tuple[dict[str, tuple[UserInterest, Mapping[str, bytes]]], Counter[tuple[str, str]]]:
    """Return the newest interest of each user, with all new events and its headers, and refused records."""
    newest: dict[str, tuple[UserInterest, Mapping[str, bytes]]] = {}
    refused: Counter[tuple[str, str]] = Counter()
    for source, record in batch:
        try:
            record.check()
            interest = decode_interest(record.value, record.timestamp_ms)
        except BadRecordError as error:
            # not a dead letter: `interests` only writes valid states, and the user's next one replaces it
            _log.error("interest refused", partition=source.partition, offset=record.offset, because=str(error))
            refused[source.topic, error.reason] += 1
            continue
        known = newest.get(interest.user_id)
        if known is None:
            newest[interest.user_id] = interest, record.headers
            continue
        older, newer = sorted([known, (interest, record.headers)], key=lambda pair: pair[0].state_version)
        # new events of the older one are counted, too
        newest[interest.user_id] = msgspec.structs.replace(newer[0], new=older[0].new + newer[0].new), newer[1]
    return newest, refused
