"""The items of a list, in columns, which take fewer bytes than an object for each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Self, overload

import msgspec
from msgspec import Meta, Struct

from streamrec.contracts.incoming import Id

STEPS = 256
"""Scores are multiples of 1 / 256."""

LEAST_SCORE, GREATEST_SCORE = -(1 << 15), (1 << 15) - 1
"""Bounds of scores, in steps."""

MAX_CHANNELS, MAX_LEADS = 64, 255
"""Maximum numbers of channels, and of a user's items, that the reasons of a list name."""

Channel = Annotated[
    str,
    Meta(
        pattern="^[a-z][a-z0-9_-]*$",
        max_length=32,
        description="neighbour, session, linear, factors, autoencoder, category, title, popular, model, recent, or "
        "the name of another channel.",
    ),
]


class Reason(Struct, gc=False, frozen=True):
    """Why an item is in a list."""

    channel: str
    item_id: str | None = None
    """The item in the user's history that triggered it, if any."""


class ListItem(Struct, gc=False, frozen=True):
    """An item of a list."""

    item_id: str
    score: float
    """Natural logarithm of the probability that the user's next event is on the item; in lists of popular items, of a
    count."""
    reason: Reason
    prior: float | None = None
    """The score for an unknown user when the list was made, at least that of the last item of the default list: readers
    re-score the list by how this has changed since."""


class ListedItems(Struct, frozen=True, omit_defaults=True):
    """The items of a list, best first, in columns. As a sequence, it consists of :class:`ListItem`.

    Examples
    --------
    >>> items = ListedItems.of([ListItem("i7", -1.5, Reason("session", "i3")), ListItem("i9", -2.0, Reason("popular"))])
    >>> items.ids, items.channels, items.leads, list(items.reasons)
    (['i7', 'i9'], ['session', 'popular'], ['i3'], [0, 1, 1, 0])
    >>> items[0]
    ListItem(item_id='i7', score=-1.5, reason=Reason(channel='session', item_id='i3'), prior=None)
    """

    ids: list[Id]
    scores: bytes
    """Natural logarithm of the probability that the user's next event is on the item, in lists of popular items of a
    count: 16-bit integers in steps of 1 / 256, little-endian, in base64."""
    reasons: bytes
    """Two bytes for each item, in base64: the index of the channel that explains it, and 1 + the index of the lead that
    triggered it, 0 for none."""
    channels: Annotated[list[Channel], Meta(max_length=MAX_CHANNELS)]
    leads: Annotated[list[Id], Meta(max_length=MAX_LEADS)] = []
    """Items in the user's history."""
    priors: bytes = b""
    """The score for an unknown user when the list was made, at least that of the last item of the default list, encoded
    like the scores: readers re-score the list by how this has changed since. Empty before the first default list."""

    @classmethod
    def of(cls, items: Sequence[ListItem]) -> Self:
        """Return items in columns; where only some have a prior, the score is that of the others."""
        channels: dict[str, int] = {}
        leads: dict[str, int] = {}
        reasons = bytearray()
        for item in items:
            lead = item.reason.item_id
            known = 0 if lead is None else leads.setdefault(lead, len(leads)) + 1
            reasons += bytes(
                (channels.setdefault(item.reason.channel, len(channels)), known if known <= MAX_LEADS else 0)
            )
        priors = [item.score if item.prior is None else item.prior for item in items]
        return cls(
            ids=[item.item_id for item in items],
            scores=pack_scores([item.score for item in items]),
            reasons=bytes(reasons),
            channels=list(channels),
            leads=list(leads)[:MAX_LEADS],
            priors=pack_scores(priors) if any(item.prior is not None for item in items) else b"",
        )

    def __post_init__(self) -> None:
        size = 2 * len(self.ids)
        if len(self.scores) != size or len(self.reasons) != size or len(self.priors) not in (0, size):
            raise ValueError("columns of different lengths")
        if size and (max(self.reasons[::2]) >= len(self.channels) or max(self.reasons[1::2]) > len(self.leads)):
            raise ValueError("reasons beyond the channels or the leads")

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ListItem]:
        priors: Sequence[float | None] = unpack_scores(self.priors) or [None] * len(self.ids)
        return map(ListItem, self.ids, unpack_scores(self.scores), self._reasons(), priors)

    @overload
    def __getitem__(self, place: int) -> ListItem: ...
    @overload
    def __getitem__(self, place: slice) -> list[ListItem]: ...
    def __getitem__(self, place: int | slice) -> ListItem | list[ListItem]:
        return list(self)[place]

    def taken(self, places: Iterable[int]) -> Self:
        """Return the items at these places, in this order."""
        chosen = list(places)
        return msgspec.structs.replace(
            self,
            ids=[self.ids[place] for place in chosen],
            **{
                name: b"".join(column[2 * place : 2 * place + 2] for place in chosen)
                for name, column in (("scores", self.scores), ("reasons", self.reasons), ("priors", self.priors))
            },
        )

    def _reasons(self) -> Iterator[Reason]:
        known: dict[bytes, Reason] = {}
        for at in range(0, len(self.reasons), 2):
            pair = self.reasons[at : at + 2]
            if pair not in known:
                channel, lead = pair
                known[pair] = Reason(self.channels[channel], self.leads[lead - 1] if lead else None)
            yield known[pair]


def pack_scores(scores: Sequence[float]) -> bytes:
    """Encode scores for a column."""
    steps = (round(max(LEAST_SCORE, min(GREATEST_SCORE, score * STEPS))) for score in scores)
    return struct.pack(f"<{len(scores)}h", *steps)


def unpack_scores(packed: bytes) -> list[float]:
    """Decode a column of scores.

    Examples
    --------
    >>> unpack_scores(pack_scores([-1.5, 0.001, 1e9]))
    [-1.5, 0.0, 127.996]
    """
    return [round(steps / STEPS, 3) for steps in struct.unpack(f"<{len(packed) // 2}h", packed)]
