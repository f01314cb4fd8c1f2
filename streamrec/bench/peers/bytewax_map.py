"""Bytewax: one event at a time, state in memory, no recovery store: a crash loses all of it."""

from __future__ import annotations

from bytewax import operators as op  # type: ignore[import-not-found]  # in an environment of its own
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # type: ignore[import-not-found]
from bytewax.testing import run_main  # type: ignore[import-not-found]

from streamrec.bench.peer import Peer
from streamrec.domain.interest import InterestState

peer = Peer()


def fold(state: InterestState | None, record: KafkaSourceMessage) -> tuple[InterestState, None]:
    """Fold a click into the state of its user."""
    state = state or InterestState()
    _kind, timestamp_ms = record.timestamp
    peer.fold(state, peer.decode(record.partition, record.offset, timestamp_ms, record.value))
    return state, None


class Nowhere(DynamicSink, StatelessSinkPartition):  # type: ignore[misc]  # no types there
    """Discards the output: a dataflow requires a sink."""

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> StatelessSinkPartition:
        """Return the sink partition of this worker."""
        return self

    def write_batch(self, items: list[object]) -> None:
        """Drop them."""


flow = Dataflow("fold")
source = KafkaSource([peer.broker], [peer.topic], tail=False, batch_size=1_000)
keyed = op.key_on("user", op.input("clicks", flow, source), lambda record: record.key.decode())
op.output("out", op.stateful_map("fold", keyed, fold), Nowhere())
run_main(flow)
peer.report()
