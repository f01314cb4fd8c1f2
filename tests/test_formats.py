"""What one release stores, the next one reads, or rejects with a clear error.

`tests/formats` holds what the stores held when a format was the current one; files stay as they are for as long as
their format is read. A change of layout takes the next format number, and files of its own.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import psycopg2
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher
from interests import stream

from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.postgres import migrate as migrations
from streamrec.adapters.postgres.migrate import migrate
from streamrec.adapters.postgres.store import _decode_user, _encode_memory
from streamrec.adapters.postgres.tables import REVISION
from streamrec.adapters.redis.interests import (
    _decode_progress,
    _encode_progress,
    _prefix,
    decode_state,
    encode_state,
)
from streamrec.contracts.decode import decode_list
from streamrec.contracts.derived import EventPosition, TopKList, UserInterest
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.domain.retention import RememberedList, UserRetention
from streamrec.errors import StreamrecError
from streamrec.model.training import checkpoint
from streamrec.service.admission import Admissions
from streamrec.service.batch import TopicPartition
from streamrec.service.fence import FenceState
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.ports import Progress

FILES = Path(__file__).parent / "formats"


def state(*, keep_seen=False):
    """Make a state with everything in it: more events than the sequence holds, ids, categories, both types."""
    folded = InterestState()
    for n in range(6):
        source = Source(EventType.PURCHASE if n == 3 else EventType.CLICK, n % 2)
        event = Event("ü1", f"i{n}", NOW_MS + n * 60_000, source, 10 + n, 1_000 + n, f"c{n % 2}" if n else "")
        folded.fold(event, FoldRules(3, keep_seen=keep_seen))
    folded.version = 7
    return folded


def retention():
    return UserRetention(
        20_000, 20_030, {(0, 1): [5, -6], (1, 0): [7]}, [RememberedList("l1", NOW_MS, frozenset({1, 2, 4_000_000_000}))]
    )


def topk():
    return TopKList(
        state_version=6,
        list_id="l1",
        user_id="ü1",
        items=ListedItems.of(
            [
                ListItem("i1", -1.5, Reason("neighbour", "i0"), -3.25),
                ListItem("i2", 4.0, Reason("popular")),
            ]
        ),
        model_version="ab12cd34-17",
        arm="personal",
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS + 1,
        made_at_ms=NOW_MS + 2,
    )


ADMISSIONS = Admissions(
    [("user-interests", 0, 12)],
    [FenceState(0, 1, 9, b"\x07\x02")],
    stream(1),
)
TENSORS = {
    "items.category": np.array([0, 3, 1], np.int32),
    "learner.rows": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def test_an_interest_state_of_format_1():
    assert decode_state(_prefix(7) + encode_state(state())) == state()
    earlier = decode_state((FILES / "interest-state-1.bin").read_bytes())
    assert [fence.recent_ids for fence in earlier.fence.values()] == [[1_000, 1_002, 1_004], [1_001, 1_005], [1_003]]
    copy = Event("ü1", "another", NOW_MS, Source(EventType.CLICK, 1), 99, 1_005, content_hash=7)
    assert earlier.fold(copy, FoldRules(3)) is Outcome.DUPLICATE, "earlier releases kept nothing of the content"
    assert earlier.fold(copy._replace(offset=100, id_hash=5), FoldRules(3)) is Outcome.APPLIED
    assert earlier.fold(copy._replace(offset=101, id_hash=5), FoldRules(3)) is Outcome.DUPLICATE
    earlier = decode_state((FILES / "interest-state-1.bin").read_bytes())
    expected = state()
    for source, fence in expected.fence.items():
        fence.recent_ids = earlier.fence[source].recent_ids
    assert earlier == expected


def test_an_interest_state_of_format_1_that_remembers_items():
    remembering = state(keep_seen=True)
    assert remembering.seen is not None
    assert decode_state((FILES / "interest-state-1-with-seen.bin").read_bytes()) == remembering
    assert decode_state(_prefix(7) + encode_state(remembering)) == remembering


def test_the_progress_of_a_partition_of_format_1():
    expected = Progress(3, 42, 40, 1, 1)
    assert _decode_progress((FILES / "interest-progress-1.bin").read_bytes()) == expected
    assert _decode_progress(_prefix(3) + _encode_progress(expected)) == expected


def test_the_memory_of_a_user_of_format_1():
    def read(memory):
        user = _decode_user(None, None, memory)
        return user.recent_ids, user.lists

    expected = (retention().recent_ids, retention().lists)
    assert read((FILES / "retention-memory-1.bin").read_bytes()) == expected == read(_encode_memory(retention()))


def test_a_stored_list():
    assert decode_list((FILES / "topk-list.json").read_bytes()) == topk()
    assert decode_list((FILES / "topk-list-columns.json").read_bytes()) == topk()


def test_a_user_interest_on_the_topic():
    interest = msgspec.json.decode((FILES / "user-interest.json").read_bytes(), type=UserInterest)
    assert (interest.user_id, interest.state_version) == ("u1", 2)
    assert interest.new == [EventPosition(0, 0, 0), EventPosition(0, 0, 1)]
    assert [(event.item_id, event.category, event.event_time_ms) for event in interest.sequence] == [
        ("a", "x", NOW_MS),
        ("b", "y", NOW_MS + 1),
    ]
    assert interest.transitions == [("x", "y", 1)]


@pytest.mark.parametrize("format_", range(checkpoint.OLDEST_FORMAT, checkpoint.FORMAT + 1))
def test_a_checkpoint_of_each_format(format_):
    tensors, documents = checkpoint.read(FILES / f"model-{format_}", 1)
    assert tensors.keys() == TENSORS.keys()
    assert all((tensors[name] == value).all() and tensors[name].dtype == value.dtype for name, value in TENSORS.items())
    assert msgspec.json.decode(documents["admissions"], type=Admissions) == ADMISSIONS


FIRST_BYTE = {"interest-state-1.bin": 8, "interest-progress-1.bin": 8, "retention-memory-1.bin": 0}
"""Where the msgpack array begins whose first entry is the format."""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("interest-state-1.bin", decode_state),
        ("interest-progress-1.bin", _decode_progress),
        ("retention-memory-1.bin", lambda value: _decode_user(None, None, value)),
    ],
)
def test_data_of_another_release_and_garbage_are_refused_with_a_clear_error(name, read):
    value = bytearray((FILES / name).read_bytes())
    value[FIRST_BYTE[name] + 1] = 2
    with pytest.raises(StreamrecError, match="has format 2, this release reads 1"):
        read(bytes(value))
    another_layout = bytes(value[: FIRST_BYTE[name]]) + msgspec.msgpack.encode([2, {"all": "new"}])
    with pytest.raises(StreamrecError, match=r"format 2|cannot be read"):
        read(another_layout)
    for garbled in (value[:-3], value[: FIRST_BYTE[name]] + b"\xc1", value[: FIRST_BYTE[name]] + b"\x05"):
        with pytest.raises(StreamrecError, match="cannot be read"):
            read(bytes(garbled))


def test_old_and_new_producers_share_a_topic():
    """The oldest form has what is required alone; a newer one has unknown fields and headers."""
    old = [click("u1", f"i{n}", NOW_MS + n) for n in range(3)]
    new = [
        click("u1", f"i{n}", NOW_MS + n, event_id=f"e{n}", category="c", list_id="l", schema=2, device={"os": ["x"]})
        for n in range(3, 6)
    ]
    mixed = [value for pair in zip(old, new, strict=True) for value in pair]
    store = MemoryInterestStore()
    headers = {"ce_dataschema": b"https://example.org/click/v2", "ce_specversion": b"1.0"}
    slices = part("clicks", mixed, headers=headers)
    FoldInterests(store, MemoryPublisher(), FoldRules(50)).handle(batch(slices))

    progress = store.progress([TopicPartition("clicks", 0)])[TopicPartition("clicks", 0)]
    assert (progress.applied, progress.duplicates, progress.dead_lettered) == (6, 0, 0)
    assert sorted(event.item_id for event in store.states["u1"].sequence) == [f"i{n}" for n in range(6)]


@pytest.mark.parametrize(("name", "kind"), [("topk-list-columns.json", TopKList), ("user-interest.json", UserInterest)])
def test_a_derived_record_of_a_newer_release_is_read(name, kind):
    document = json.loads((FILES / name).read_bytes())
    newer = json.dumps(document | {"added_later": {"deep": [1]}}).encode()
    assert msgspec.json.decode(newer, type=kind) == msgspec.json.decode(json.dumps(document).encode(), type=kind)


def test_tables_of_a_newer_release_are_unchanged(postgres_url):
    with closing(psycopg2.connect(postgres_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StreamrecError, match=r"newer release.*'9999'"):
        migrate(postgres_url)
    with pytest.raises(StreamrecError, match=rf"revision 9999.*requires {REVISION}.*streamrec migrate"):
        PostgresRetentionStore(postgres_url).positions([])


def test_retention_works_with_the_tables_that_the_migrations_make():
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]
