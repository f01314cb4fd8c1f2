"""The topics by name, and what each one needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamrec.domain.event import EventType

CLICKS = "clicks"
PURCHASES = "purchases"
ITEMS = "items"
IMPRESSIONS = "impressions"
USER_INTERESTS = "user-interests"
RECOMMENDATIONS = "recommendations"
MODEL_UPDATES = "model-updates"
MODEL_VERSIONS = "model-versions"
MODEL_CONTROL = "model-control"
STORE_IDENTITIES = "store-identities"

EVENT_TYPES = {CLICKS: EventType.CLICK, PURCHASES: EventType.PURCHASE}
"""Topics of events, and what kind each one carries."""

DEAD_LETTER_SUFFIX = ".dlq"


BROKER_MAX_MESSAGE_BYTES = 1_048_588
"""`max.message.bytes` of a topic that says nothing of it, by Kafka's default."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic needs of the broker.

    Parameters
    ----------
    name
        Its name.
    partitioned
        Whether it is split by user (as many partitions as the settings say) or has one partition.
    config
        Broker settings that differ from the broker's defaults.
    """

    name: str
    partitioned: bool = True
    config: dict[str, str] = field(default_factory=dict)


_ROOM_FOR_HEADERS = {"max.message.bytes": str(BROKER_MAX_MESSAGE_BYTES + 65_536)}
"""A dead letter is the original record and its headers: the largest record that the broker takes must still fit."""

_MODEL_UPDATES = {
    "retention.ms": str(24 * 3_600_000),
    # a snapshot comes before the versions since the last one outweigh it twice, so that one is always kept
    "retention.bytes": str(4 << 30),
    "segment.bytes": str(64 << 20),
}

TOPICS = (
    Topic(CLICKS),
    Topic(PURCHASES),
    Topic(ITEMS, partitioned=False, config={"cleanup.policy": "compact"}),
    Topic(IMPRESSIONS),
    Topic(USER_INTERESTS),
    Topic(RECOMMENDATIONS),
    Topic(MODEL_UPDATES, partitioned=False, config=_MODEL_UPDATES),
    Topic(MODEL_VERSIONS, partitioned=False, config={"cleanup.policy": "compact"}),
    Topic(MODEL_CONTROL, partitioned=False),
    Topic(STORE_IDENTITIES, partitioned=False, config={"cleanup.policy": "compact"}),
    *(
        Topic(topic + DEAD_LETTER_SUFFIX, partitioned=False, config=_ROOM_FOR_HEADERS)
        for topic in (CLICKS, PURCHASES, ITEMS, IMPRESSIONS)
    ),
)


def dead_letter_topic(topic: str) -> str:
    """Return the topic that takes what cannot be applied.

    Examples
    --------
    >>> dead_letter_topic("clicks")
    'clicks.dlq'
    """
    return topic + DEAD_LETTER_SUFFIX
