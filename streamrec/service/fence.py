"""Admitted source positions: exact within a window, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from streamrec.domain.event import topic_number

WINDOW_OFFSETS = 1 << 20
"""Offsets in the window of a source partition: 128 KiB of bits."""


class PositionFence:
    """Admits each offset of one source partition once, in any order within a window.

    An offset more than `WINDOW_OFFSETS` below the highest one seen cannot be distinguished from a redelivery and is
    refused: an event that arrives a million events late is lost to the consumer, never counted twice.

    Parameters
    ----------
    highest
        The highest offset admitted so far, -1 for none.
    bits
        The window: the bit of an offset is `offset % WINDOW_OFFSETS`.

    Examples
    --------
    >>> fence = PositionFence()
    >>> fence.admit(3), fence.admit(1), fence.admit(3)
    (True, True, False)
    >>> 1 in fence, 2 in fence
    (True, False)
    """

    __slots__ = ("bits", "highest")

    def __init__(self, highest: int = -1, bits: bytes | bytearray = b"") -> None:
        self.highest = highest
        self.bits = bytearray(bits)

    def admit(self, offset: int) -> bool:
        """Admit an offset, and return whether it is new."""
        if offset <= self.highest - WINDOW_OFFSETS:
            return False
        if offset > self.highest:
            self._advance(offset)
        byte, bit = divmod(offset % WINDOW_OFFSETS, 8)
        if byte >= len(self.bits):
            # grows with the offsets until the window is full, then wraps around
            self.bits.extend(bytes(min(2 * byte + 64, WINDOW_OFFSETS // 8) - len(self.bits)))
        if self.bits[byte] >> bit & 1:
            return False
        self.bits[byte] |= 1 << bit
        return True

    def __contains__(self, offset: int) -> bool:
        """Whether an offset was admitted, within the window."""
        if not self.highest - WINDOW_OFFSETS < offset <= self.highest:
            return False
        byte, bit = divmod(offset % WINDOW_OFFSETS, 8)
        return byte < len(self.bits) and bool(self.bits[byte] >> bit & 1)

    def join(self, other: PositionFence) -> None:
        """Add all offsets of another fence."""
        mine, others, highest = self._aligned(other)
        self.highest, self.bits = highest, _to_bits(mine | others)

    def leave_out(self, other: PositionFence) -> None:
        """Remove all offsets of another fence."""
        mine, others, highest = self._aligned(other)
        self.highest, self.bits = highest, _to_bits(mine & ~others)

    def _aligned(self, other: PositionFence) -> tuple[int, int, int]:
        """Return the bits of both fences as integers, aligned to the higher window, and the end of that window."""
        highest = max(self.highest, other.highest)
        numbers = []
        for fence in (self, other):
            copy = PositionFence(fence.highest, fence.bits)
            if highest > copy.highest:
                copy._advance(highest)
            numbers.append(int.from_bytes(copy.bits, "little"))
        return numbers[0], numbers[1], highest

    def _advance(self, offset: int) -> None:
        """Advance the window: the bits of offsets that leave it are cleared for new offsets."""
        first, self.highest = self.highest + 1, offset
        if offset - first >= WINDOW_OFFSETS:
            self.bits.clear()
            return
        for freed in range(first, offset + 1):
            byte, bit = divmod(freed % WINDOW_OFFSETS, 8)
            if byte < len(self.bits):
                self.bits[byte] &= ~(1 << bit)


def _to_bits(number: int) -> bytearray:
    return bytearray(number.to_bytes((number.bit_length() + 7) // 8, "little"))


class FenceState(msgspec.Struct, frozen=True, array_like=True):
    """A fence in a checkpoint."""

    topic_number: int
    partition: int
    highest: int
    bits: bytes


class Placed(Protocol):
    """An event with its position in the log."""

    @property
    def event_type(self) -> int:
        """The kind of event, which determines the topic."""

    @property
    def partition(self) -> int:
        """Partition of the topic."""

    @property
    def offset(self) -> int:
        """Offset in the partition."""


class Fences:
    """A fence per source partition of events.

    Parameters
    ----------
    states
        What :meth:`state` returned.
    """

    def __init__(self, states: Sequence[FenceState] = ()) -> None:
        self._fences = {
            (state.topic_number, state.partition): PositionFence(state.highest, state.bits) for state in states
        }

    def __bool__(self) -> bool:
        """Whether anything was ever admitted."""
        return bool(self._fences)

    def __contains__(self, event: Placed) -> bool:
        """Whether an event was admitted, within the window."""
        fence = self._fences.get((topic_number(event.event_type), event.partition))
        return fence is not None and event.offset in fence

    def has_admitted(self, topic: int, partition: int) -> bool:
        """Return whether any event of a source partition was ever admitted, by the number of its topic."""
        return (topic, partition) in self._fences

    def admit(self, event: Placed) -> bool:
        """Admit an event, and return whether it is new."""
        source = topic_number(event.event_type), event.partition
        return self._fences.setdefault(source, PositionFence()).admit(event.offset)

    def join(self, other: Fences) -> None:
        """Add all events of other fences."""
        for key, fence in other._fences.items():
            self._fences.setdefault(key, PositionFence()).join(fence)

    def leave_out(self, other: Fences) -> None:
        """Remove all events of other fences."""
        for key, fence in self._fences.items():
            if key in other._fences:
                fence.leave_out(other._fences[key])

    def state(self) -> list[FenceState]:
        """Return the state, for a checkpoint."""
        return [FenceState(*key, fence.highest, bytes(fence.bits)) for key, fence in self._fences.items()]
