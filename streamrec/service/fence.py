"""Which source positions were admitted already: exact within a window, in bounded memory."""

from __future__ import annotations

WINDOW_OFFSETS = 1 << 20
"""Offsets of a source partition that are told apart: 128 KiB of bits."""


class PositionFence:
    """Admits each offset of one source partition once, in any order within a window.

    An offset more than `WINDOW_OFFSETS` below the highest one seen cannot be told from a redelivery any more and is
    refused: an event that comes a million events late is lost to the consumer, never counted twice.

    Parameters
    ----------
    highest
        The highest offset admitted so far, -1 for none.
    bits
        The window: the bit of an offset is at `offset % WINDOW_OFFSETS`.

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
        """Take note of an offset, and return whether it is new."""
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
        """Whether an offset was admitted, as far as the window still knows."""
        if not self.highest - WINDOW_OFFSETS < offset <= self.highest:
            return False
        byte, bit = divmod(offset % WINDOW_OFFSETS, 8)
        return byte < len(self.bits) and bool(self.bits[byte] >> bit & 1)

    def join(self, other: PositionFence) -> None:
        """Admit all that another fence admitted."""
        highest = max(self.highest, other.highest)
        joined = 0
        for fence in (self, PositionFence(other.highest, other.bits)):
            if highest > fence.highest:
                fence._advance(highest)  # noqa: SLF001  # its own class
            joined |= int.from_bytes(fence.bits, "little")
        self.bits = bytearray(joined.to_bytes(max(len(self.bits), len(other.bits)), "little"))

    def _advance(self, offset: int) -> None:
        """Make room: what falls out of the window frees its bit for the offset that takes its place."""
        first, self.highest = self.highest + 1, offset
        if offset - first >= WINDOW_OFFSETS:
            self.bits.clear()
            return
        for freed in range(first, offset + 1):
            byte, bit = divmod(freed % WINDOW_OFFSETS, 8)
            if byte < len(self.bits):
                self.bits[byte] &= ~(1 << bit)
