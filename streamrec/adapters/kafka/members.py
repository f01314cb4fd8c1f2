"""Who takes part in a consumer group, as the broker sees it."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamrec.adapters.kafka.client import client_config, translate_exception
from streamrec.settings import KafkaAccess

_TIMEOUT_S = 10.0


def member_hosts(kafka: KafkaAccess, group: str) -> set[str]:
    """Return the IP addresses from which a group's members are connected; empty for a group that does not exist.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    admin = AdminClient(client_config(kafka))
    try:
        # librdkafka ends the request in time, one way or the other
        described = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S)[group].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return set()
        raise translate_exception(error, admin) from error
    return {member.host.removeprefix("/") for member in described.members}
