"""Quix Streams: one event at a time, state in RocksDB with a changelog in Kafka; publishes each new state."""

from __future__ import annotations

from quixstreams import Application, State  # type: ignore[import-not-found]  # in an environment of its own
from quixstreams.context import message_context  # type: ignore[import-not-found]

from streamrec.bench.peer import Peer

peer = Peer()
app = Application(
    broker_address=peer.broker,
    consumer_group="peer-quix-publishing",
    auto_offset_reset="earliest",
    state_dir=peer.directory,
    loglevel="WARNING",
)
clicks = app.topic(peer.topic, value_deserializer="bytes", key_deserializer="bytes")
interests = app.topic("peer-quix-interests", value_serializer="bytes", key_serializer="bytes")


def fold(value: bytes, _key: bytes, timestamp_ms: int, _headers: object, state: State) -> bytes:
    """Fold a click into the state of its user, and return the record of that state."""
    context = message_context()
    event = peer.decode(context.partition, context.offset, timestamp_ms, value)
    stored, record = peer.fold_and_describe(state.get_bytes("state"), event)
    state.set_bytes("state", stored)
    return record


app.dataframe(clicks).apply(fold, stateful=True, metadata=True).to_topic(interests)
app.run(count=peer.events)
peer.report()
