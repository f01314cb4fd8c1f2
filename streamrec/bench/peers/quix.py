"""Quix Streams: one event at a time, state in RocksDB with a changelog in Kafka."""

from __future__ import annotations

from quixstreams import Application, State  # type: ignore[import-not-found]  # in an environment of its own
from quixstreams.context import message_context  # type: ignore[import-not-found]

from streamrec.bench.peer import Peer

peer = Peer()
app = Application(
    broker_address=peer.broker,
    consumer_group="peer-quix",
    auto_offset_reset="earliest",
    state_dir=peer.directory,
    loglevel="WARNING",
)
clicks = app.topic(peer.topic, value_deserializer="bytes", key_deserializer="bytes")


def fold(value: bytes, _key: bytes, timestamp_ms: int, _headers: object, state: State) -> None:
    """Fold a click into the state of its user."""
    context = message_context()
    event = peer.decode(context.partition, context.offset, timestamp_ms, value)
    state.set_bytes("state", peer.fold_stored(state.get_bytes("state"), event))


app.dataframe(clicks).apply(fold, stateful=True, metadata=True)
app.run(count=peer.events)
peer.report()
