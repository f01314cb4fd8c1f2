"""Leaving a consumer group in the place of a process that died and could not.

The broker gives its partitions to others only when its session has ended. Whoever sees the process end need not wait:
the broker takes anybody's word for a member that leaves. A member that lives all the same joins again.
"""

from __future__ import annotations

import asyncio

from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]  # it comes without types

from streamrec.adapters.kafka.client import client_id
from streamrec.adapters.kafka.members import connected, describe
from streamrec.kafka_access import KafkaAccess


def leave_for(kafka: KafkaAccess, group: str, pid: int) -> int:
    """Let the members leave a group that a process of this host was, and return how many there were.

    Raises
    ------
    TransientError
        If the broker does not answer; it misses the members by itself some seconds later.
    """
    return asyncio.run(_leave_for(kafka, group, client_id(pid)))


async def _leave_for(kafka: KafkaAccess, group: str, client: str) -> int:
    coordinators: dict[str, int] = {}
    async with connected(kafka) as connection:
        members = (await describe(connection, kafka, [group], coordinators))[group].members
        left_behind = [member.member_id for member in members if member.client_id == client]
        for member_id in left_behind:
            await connection.send(coordinators[group], LeaveGroupRequest(kafka.on_broker(group), member_id))
    return len(left_behind)
