"""Who takes part in a consumer group, as the broker sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamrec.adapters.kafka.client import client_config, to_source, translate_exception
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import TopicPartition

MEMBERS_AGE_S = 2.0
"""Groups and their members are asked for anew after so long: who was killed is missed by the broker after six seconds,
and by a monitor within ten."""

_TIMEOUT_S = 10.0


class GroupMembers:
    """How many members each group has, and what they read, not older than `MEMBERS_AGE_S`.

    Parameters
    ----------
    kafka
        Where Kafka is and how to get in.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._admin = AdminClient(client_config(kafka))
        self._read_s = float("-inf")
        self.counts: dict[str, int] = {}
        """Members by group."""
        self.assigned: dict[str, set[TopicPartition]] = {}
        """What is assigned to the members of each group, where it has members and they do not rebalance now."""

    def refresh(self, groups: Sequence[str], *, others: bool) -> None:
        """Ask for the members of these groups, which may not exist, and of all `others` that the broker knows.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        if time.monotonic() - self._read_s < MEMBERS_AGE_S:
            return
        names = list(groups)
        if others:
            try:
                listed = self._admin.list_consumer_groups(request_timeout=_TIMEOUT_S).result()
            except KafkaException as error:
                raise translate_exception(error, self._admin) from error
            known = (self._kafka.own_name(group.group_id) for group in listed.valid)
            names += sorted({name for name in known if name is not None} - set(names))
        found = _described(self._kafka, self._admin, names)
        self.counts = {name: len(_members_of(group)) for name, group in found.items()}
        self.assigned = {
            name: {
                to_source(self._kafka, part)
                for member in group.members
                for part in (member.assignment.topic_partitions if member.assignment else ())
            }
            for name, group in found.items()
            if group is not None and group.members and group.state == ConsumerGroupState.STABLE
        }
        self._read_s = time.monotonic()


def member_hosts(kafka: KafkaAccess, group: str) -> set[str]:
    """Return the IP addresses from which a group's members are connected; empty for a group that does not exist.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    # the client must outlive its futures, else they fail
    admin = AdminClient(client_config(kafka))
    return {member.host.removeprefix("/") for member in _members(kafka, admin, [group])[group]}


def has_members(kafka: KafkaAccess, groups: Sequence[str]) -> bool:
    """Return whether any of these groups has a member; one that was killed remains for some seconds.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    admin = AdminClient(client_config(kafka))  # must outlive its futures, else they fail
    return any(_members(kafka, admin, groups).values())


def member_ids(kafka: KafkaAccess, group: str, client: str) -> list[str]:
    """Return the ids of a group's members that call themselves by this client id.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    admin = AdminClient(client_config(kafka))  # must outlive its futures, else they fail
    return [member.member_id for member in _members(kafka, admin, [group])[group] if member.client_id == client]


def _members(kafka: KafkaAccess, admin: AdminClient, groups: Sequence[str]) -> dict[str, list[Any]]:
    """Return the members of groups; a group that does not exist has none."""
    return {name: _members_of(group) for name, group in _described(kafka, admin, groups).items()}


def _members_of(group: Any) -> list[Any]:  # noqa: ANN401  # the stub of the client has no name for it
    return [] if group is None else list(group.members)


def _described(kafka: KafkaAccess, admin: AdminClient, groups: Sequence[str]) -> dict[str, Any]:
    """Return what the broker says of groups, `None` of one that does not exist."""
    if not groups:
        return {}
    # librdkafka ends the request in time, one way or the other
    futures = admin.describe_consumer_groups([kafka.on_broker(group) for group in groups], request_timeout=_TIMEOUT_S)
    found: dict[str, Any] = {}
    for group in groups:
        try:
            found[group] = futures[kafka.on_broker(group)].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise translate_exception(error, admin) from error
            found[group] = None
    return found
