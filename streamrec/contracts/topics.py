"""Topic names and configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamrec.domain.event import topic_number

CLICKS = "clicks"
PURCHASES = "purchases"
FEEDBACK = "feedback"
ITEMS = "items"
IMPRESSIONS = "impressions"
USER_INTERESTS = "user-interests"
RECOMMENDATIONS = "recommendations"
MODEL_UPDATES = "model-updates"
MODEL_VERSIONS = "model-versions"
MODEL_CONTROL = "model-control"
STORE_IDENTITIES = "store-identities"

EVENT_TOPICS = (CLICKS, PURCHASES, FEEDBACK)
"""Topics of events, by :func:`~streamrec.domain.event.topic_number`."""

PRODUCED_TOPICS = (*EVENT_TOPICS, ITEMS, IMPRESSIONS)
"""Topics that users of streamrec produce to; each has a dead-letter topic."""

DEAD_LETTER_SUFFIX = ".dlq"


BROKER_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default for `max.message.bytes`."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Configuration of a topic.

    Parameters
    ----------
    name
        Its name.
    partitioned
        Whether it is partitioned by user (the number of partitions is a setting) or has one partition.
    config
        Broker settings that differ from the broker's defaults.
    """

    name: str
    partitioned: bool = True
    config: dict[str, str] = field(default_factory=dict)


_ROOM_FOR_HEADERS = {"max.message.bytes": str(BROKER_MAX_MESSAGE_BYTES + 65_536)}
"""A dead letter is the original record with more headers: the largest record that the broker accepts must still fit."""

_MODEL_UPDATES = {
    "retention.ms": str(24 * 3_600_000),
    # snapshots are published before the deltas since the last one reach twice its size, so one is always retained
    "retention.bytes": str(4 << 30),
    "segment.bytes": str(64 << 20),
}

TOPICS = (
    Topic(CLICKS),
    Topic(PURCHASES),
    Topic(FEEDBACK),
    Topic(ITEMS, partitioned=False, config={"cleanup.policy": "compact"}),
    Topic(IMPRESSIONS),
    Topic(USER_INTERESTS),
    Topic(RECOMMENDATIONS),
    Topic(MODEL_UPDATES, partitioned=False, config=_MODEL_UPDATES),
    Topic(MODEL_VERSIONS, partitioned=False, config={"cleanup.policy": "compact"}),
    Topic(MODEL_CONTROL, partitioned=False),
    Topic(STORE_IDENTITIES, partitioned=False, config={"cleanup.policy": "compact"}),
    *(Topic(topic + DEAD_LETTER_SUFFIX, partitioned=False, config=_ROOM_FOR_HEADERS) for topic in PRODUCED_TOPICS),
)


def topic_of(event_type: int) -> str:
    """Return the topic of a kind of event.

    Examples
    --------
    >>> topic_of(0), topic_of(1), topic_of(10)
    ('clicks', 'purchases', 'feedback')
    """
    return EVENT_TOPICS[topic_number(event_type)]


def dead_letter_topic(topic: str) -> str:
    """Return the dead-letter topic of a topic.

    Examples
    --------
    >>> dead_letter_topic("clicks")
    'clicks.dlq'
    """
    return topic + DEAD_LETTER_SUFFIX
