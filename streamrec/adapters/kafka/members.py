"""Members of consumer groups, from the broker.

Groups are described over aiokafka's connections: requests of librdkafka's AdminClient to a group's coordinator abort
the whole process if that connection fails (https://github.com/confluentinc/librdkafka/issues/4605).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]  # it comes without types
from aiokafka.coordinator.protocol import (  # type: ignore[import-untyped]  # it comes without types
    ConsumerProtocol,
    ConsumerProtocolMemberAssignment,
)
from aiokafka.errors import GroupIdNotFound, for_code  # type: ignore[import-untyped]  # it comes without types
from aiokafka.protocol.admin import (  # type: ignore[import-untyped]  # it comes without types
    DescribeGroupsRequest,
    DescribeGroupsRequest_v1,
    ListGroupsRequest,
)

from streamrec.adapters.kafka.offsets import aiokafka_access, translated_errors
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition

MEMBERS_AGE_S = 2.0
"""Refresh interval of groups and members: the broker notices a killed member after six seconds, a monitor within
ten."""

_TIMEOUT_MS = 5_000
_GROUP = 0
"""Coordinator type for consumer groups."""

_STABLE = "Stable"
"""State of a group that does not rebalance."""


class Member(NamedTuple):
    """A member of a group.

    Attributes
    ----------
    member_id, client_id
        Id assigned by the broker, and client id.
    host
        IP address from which it is connected.
    assigned
        Assigned partitions.
    """

    member_id: str
    client_id: str
    host: str
    assigned: Sequence[TopicPartition]


class Group(NamedTuple):
    """A consumer group; one that does not exist has no members."""

    is_stable: bool
    """Whether it is not rebalancing."""
    members: Sequence[Member]


class _DescribeGroups(DescribeGroupsRequest):  # type: ignore[misc]  # it comes without types
    """Version 1 of the request: aiokafka parses responses of version 3 with the layout of version 2."""

    def prepare(self, _versions: Mapping[int, tuple[int, int]]) -> Any:  # noqa: ANN401  # it comes without types
        return self.build(DescribeGroupsRequest_v1)


class GroupMembers:
    """Number of members and assignments by group, at most `MEMBERS_AGE_S` old.

    Must be created and used in the same event loop.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._client = _client(kafka)
        self._bootstrapped = False
        self._coordinators: dict[str, int] = {}
        self._read_s = float("-inf")
        self.counts: dict[str, int] = {}
        """Number of members by group."""
        self.assigned: dict[str, set[TopicPartition]] = {}
        """Assigned partitions by group, for groups with members that are not rebalancing."""

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def refresh(self, groups: Sequence[str], *, others: bool) -> None:
        """Request the members of these groups, which may not exist, and optionally of all `others` on the broker.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        if time.monotonic() - self._read_s < MEMBERS_AGE_S:
            return
        with translated_errors():
            if not self._bootstrapped:
                await self._client.bootstrap()
                self._bootstrapped = True
            names = [*groups]
            if others:
                known = {self._kafka.own_name(name) for name in await _list_groups(self._client)}
                names += sorted(name for name in known - set(names) if name is not None)
            found = await describe(self._client, self._kafka, names, self._coordinators)
        self.counts = {name: len(group.members) for name, group in found.items()}
        self.assigned = {
            name: {source for member in group.members for source in member.assigned}
            for name, group in found.items()
            if group.members and group.is_stable
        }
        self._read_s = time.monotonic()


@asynccontextmanager
async def connected(kafka: KafkaAccess) -> AsyncIterator[AIOKafkaClient]:
    """Connect to Kafka for some requests; errors are raised as a `TransientError`."""
    client = _client(kafka)
    try:
        with translated_errors():
            await client.bootstrap()
            yield client
    finally:
        await client.close()


def member_hosts(kafka: KafkaAccess, group: str) -> set[str]:
    """Return the IP addresses of a group's members; empty for a group that does not exist.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    return {member.host for member in _describe_once(kafka, [group])[group].members}


def has_members(kafka: KafkaAccess, groups: Sequence[str]) -> bool:
    """Return whether any of these groups has a member; a killed one remains for some seconds.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    return any(group.members for group in _describe_once(kafka, groups).values())


def _client(kafka: KafkaAccess) -> AIOKafkaClient:
    return AIOKafkaClient(request_timeout_ms=_TIMEOUT_MS, **aiokafka_access(kafka))


def _describe_once(kafka: KafkaAccess, groups: Sequence[str]) -> dict[str, Group]:
    async def ask() -> dict[str, Group]:
        async with connected(kafka) as client:
            return await describe(client, kafka, groups, {})

    return asyncio.run(ask())


async def describe(
    client: AIOKafkaClient, kafka: KafkaAccess, groups: Sequence[str], coordinators: dict[str, int]
) -> dict[str, Group]:
    """Describe groups.

    Parameters
    ----------
    coordinators
        Known coordinator of each group; missing ones are looked up and added. Cleared if one turns out to be wrong.

    Raises
    ------
    TransientError
        If a coordinator cannot answer now.
    KafkaError
        If a broker does not answer.
    """
    by_node: dict[int, list[str]] = defaultdict(list)
    # cleared until all have answered: another broker may have taken over a group
    known = coordinators.copy()
    coordinators.clear()
    for group in groups:
        if group not in known:
            known[group] = await client.coordinator_lookup(_GROUP, kafka.on_broker(group))
        by_node[known[group]].append(group)
    found: dict[str, Group] = {}
    for node, names in by_node.items():
        answer = await client.send(node, _DescribeGroups([kafka.on_broker(name) for name in names]))
        for error, name, state, protocol, _, members in answer.groups:
            if error and error != GroupIdNotFound.errno:
                raise TransientError(f"Kafka: group {name}: {for_code(error).__name__}")
            is_consumers = protocol == ConsumerProtocol.PROTOCOL_TYPE
            found[name] = Group(state == _STABLE, [_member(kafka, each, is_consumers=is_consumers) for each in members])
    coordinators.update(known)
    return {group: found[kafka.on_broker(group)] for group in groups}


async def _list_groups(client: AIOKafkaClient) -> list[str]:
    """Return all consumer groups of all brokers."""
    found: list[str] = []
    for broker in client.cluster.brokers():
        answer = await client.send(broker.nodeId, ListGroupsRequest())
        if answer.error_code:
            raise TransientError(f"Kafka: groups: {for_code(answer.error_code).__name__}")
        found += [name for name, protocol in answer.groups if protocol in {ConsumerProtocol.PROTOCOL_TYPE, ""}]
    return found


def _member(kafka: KafkaAccess, told: tuple[str, str, str, bytes, bytes], *, is_consumers: bool) -> Member:
    member_id, client_id, host, _, assignment = told
    has_parts = is_consumers and assignment
    parts = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if has_parts else []
    sources = [TopicPartition(kafka.own_name(part.topic) or part.topic, part.partition) for part in parts]
    return Member(member_id, client_id, host.removeprefix("/"), sources)
