"""Leaving a consumer group on behalf of a process that died.

The broker reassigns a dead member's partitions only after its session timeout. A supervisor that sees the process end
can remove the member immediately: the broker accepts a leave request from anyone. A member that is still alive rejoins.
"""

from __future__ import annotations

import asyncio

from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]  # it comes without types

from streamrec.adapters.kafka.client import client_id
from streamrec.adapters.kafka.members import connected, describe
from streamrec.kafka_access import KafkaAccess


def leave_for(kafka: KafkaAccess, group: str, pid: int) -> int:
    """Remove the members of a group that belong to a process of this host, and return their number.

    Raises
    ------
    TransientError
        If the broker does not answer; the members time out some seconds later.
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
