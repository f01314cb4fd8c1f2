"""A plain Faust agent: one event at a time, a Table in memory with its changelog in Kafka."""

from __future__ import annotations

import os

import faust

from streamrec.bench.peer import Peer

peer = Peer()
app = faust.App(
    "peer-faust",
    broker=f"kafka://{peer.broker}",
    datadir=peer.directory,
    store="memory://",
    topic_partitions=peer.partitions,
    web_enabled=False,
)
clicks = app.topic(peer.topic, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
states = app.Table("states", key_type=bytes, value_type=bytes)


@app.agent(clicks)
async def fold(records: faust.StreamT[bytes]) -> None:
    """Fold each click into the state of its user."""
    async for record in records.events():
        message = record.message
        event = peer.decode(message.partition, message.offset, int(message.timestamp * 1_000), message.value)
        states[message.key] = peer.fold_stored(states.get(message.key), event)
        if peer.done:
            peer.report()
            os._exit(0)  # stopping takes seconds, and its state is discarded


faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False).execute_from_commandline()
