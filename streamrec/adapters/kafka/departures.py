"""Leaving a consumer group in the place of a process that died and could not.

The broker gives its partitions to others only when its session has ended. Whoever sees the process end need not wait:
the broker takes anybody's word for a member that leaves. A member that lives all the same joins again.
"""

from __future__ import annotations

import asyncio

from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]  # it comes without types
from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]  # it comes without types

from streamrec.adapters.kafka.client import client_id
from streamrec.adapters.kafka.members import member_ids
from streamrec.adapters.kafka.offsets import aiokafka_access, translated_errors
from streamrec.kafka_access import KafkaAccess

_TIMEOUT_MS = 5_000
_GROUP = 0
"""The type of coordinator that looks after consumer groups."""


def leave_for(kafka: KafkaAccess, group: str, pid: int) -> int:
    """Let the members leave a group that a process of this host was, and return how many there were.

    Raises
    ------
    TransientError
        If the broker does not answer; it misses the members by itself some seconds later.
    """
    left_behind = member_ids(kafka, group, client_id(pid))
    if left_behind:
        asyncio.run(_leave(kafka, kafka.on_broker(group), left_behind))
    return len(left_behind)


async def _leave(kafka: KafkaAccess, group: str, members: list[str]) -> None:
    client = AIOKafkaClient(request_timeout_ms=_TIMEOUT_MS, **aiokafka_access(kafka))
    try:
        with translated_errors():
            await client.bootstrap()
            coordinator = await client.coordinator_lookup(_GROUP, group)
            for member in members:
                await client.send(coordinator, LeaveGroupRequest(group, member))
    finally:
        await client.close()
