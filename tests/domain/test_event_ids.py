"""The same id with the same content is a copy; with other content it is another event, not dropped silently."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.event_ids import RECENT_IDS, Sighting, take_note

PURCHASES = Source(EventType.PURCHASE, 0)


def event(id_hash, content_hash=0):
    return Event("u", "a", 1, PURCHASES, 1, id_hash, content_hash=content_hash)


def test_lines_of_an_order_with_one_id_are_told_from_copies():
    recent: list[int] = []
    lines = [event(-7, content) for content in (1, 2, 3)]
    assert [take_note(line, recent) for line in lines] == [Sighting.NEW, Sighting.CONFLICT, Sighting.CONFLICT]
    assert take_note(lines[0], recent) is Sighting.COPY
    assert take_note(lines[1], recent) is Sighting.CONFLICT, "what was refused is refused again, and never a copy"
    assert len(recent) == 1


def test_an_event_without_an_id_is_always_new():
    recent: list[int] = []
    assert [take_note(event(None), recent) for _ in range(2)] == [Sighting.NEW] * 2
    assert recent == []


def test_ids_that_an_earlier_release_kept_are_known_whatever_the_content():
    recent = [-5, 2**62, 3]
    assert [take_note(event(old, 9), recent) for old in (-5, 2**62, 3)] == [Sighting.COPY] * 3
    assert take_note(event(4, 9), recent) is Sighting.NEW
    assert take_note(event(4, 8), recent) is Sighting.CONFLICT
    assert take_note(event(3, 8), recent) is Sighting.COPY
    for id_hash in range(100, 100 + RECENT_IDS):
        assert take_note(event(id_hash), recent) is Sighting.NEW
    assert take_note(event(3), recent) is Sighting.NEW
    assert len(recent) == RECENT_IDS


def test_an_entry_fits_into_64_bits():
    recent: list[int] = []
    for id_hash in (-(2**63), -1, 0, 2**63 - 1):
        take_note(event(id_hash, 0xFFFF), recent)
    assert all(2**63 <= entry < 2**64 for entry in recent)
    assert len(set(recent)) == 2, "ids are told apart by their low 47 bits"


def test_an_id_that_stands_across_two_entries_is_none_of_them():
    recent = [0x8011_2233_0000_0000, 1 << 63 | 0x8000]
    across = event(0x8011_2233)
    stored = b"".join(entry.to_bytes(8, "little") for entry in recent)
    assert stored.find((1 << 47 | 0x8011_2233).to_bytes(6, "little")) == 4, "the bytes are there, in the wrong place"
    assert take_note(across, recent) is Sighting.NEW
    assert take_note(across, recent) is Sighting.COPY


@settings(derandomize=True)
@given(ids=st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**46, 1 << 16]), max_size=60))
def test_an_id_is_found_exactly_if_it_was_seen(ids):
    recent: list[int] = []
    seen = set()
    for id_hash in ids:
        low_bits = id_hash & (1 << 47) - 1
        assert take_note(event(id_hash), recent) is (Sighting.COPY if low_bits in seen else Sighting.NEW)
        seen.add(low_bits)
