"""Creating topics."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamrec.adapters.kafka.client import client_config, translate_exception
from streamrec.adapters.kafka.limits import MAX_MESSAGE_BYTES
from streamrec.contracts.topics import TOPICS
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess

_TIMEOUT_S = 10.0


def create_topics(
    kafka: KafkaAccess, partitions: int, replication: int, *, limits: Mapping[str, int] | None = None
) -> list[str]:
    """Create missing topics; existing ones are left unchanged.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    partitions, replication
        Of each new topic; a topic that is not partitioned by user gets one partition.
    limits
        Record size limit of a topic in bytes, if the broker's default is too small.

    Returns
    -------
    list of str
        The created topics.

    Raises
    ------
    TransientError
        If the broker does not answer or rejects the request.
    """
    # the client must outlive its futures, or they fail
    admin = AdminClient(client_config(kafka))
    futures = admin.create_topics(
        [
            NewTopic(
                kafka.on_broker(topic.name),
                partitions if topic.partitioned else 1,
                replication,
                config=topic.config | _limit_of(topic.name, limits or {}),
            )
            for topic in TOPICS
        ],
        request_timeout=_TIMEOUT_S,
    )
    created = []
    for name, future in futures.items():
        try:
            future.result(_TIMEOUT_S)
        except TimeoutError:
            raise TransientError(f"Kafka: no answer from {kafka.bootstrap} in {_TIMEOUT_S:.0f} s") from None
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translate_exception(error, admin) from error
        else:
            created.append(name)
    return created


def _limit_of(topic: str, limits: Mapping[str, int]) -> dict[str, str]:
    return {MAX_MESSAGE_BYTES: str(limits[topic])} if topic in limits else {}
