"""The AsyncAPI 3 document: the messages that the pipeline sends and receives, by topic.

`user-interests` and `model-updates` are also consumed by the pipeline's own workers; since others may consume them too,
they are described as sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from streamrec import __version__
from streamrec.contracts.topics import (
    CLICKS,
    FEEDBACK,
    IMPRESSIONS,
    ITEMS,
    MODEL_CONTROL,
    MODEL_UPDATES,
    MODEL_VERSIONS,
    PRODUCED_TOPICS,
    PURCHASES,
    RECOMMENDATIONS,
    STORE_IDENTITIES,
    TOPICS,
    USER_INTERESTS,
    Topic,
    dead_letter_topic,
)

SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"

_CLOUD_EVENT = {
    "ce_id": "With `ce_source`, the id of the event; takes precedence over `event_id` in the payload.",
    "ce_source": "Source of the event.",
    "ce_type": "Reverse-DNS type. It is split into words at punctuation and capital letters; the last one that names a "
    "kind of event (click, clicks or clicked, for instance) must name this one.",
}
_LIST_CONFIGURATION = ("cleanup.policy",)


@dataclass(frozen=True, slots=True)
class _Channel:
    """A topic and its one kind of message.

    Parameters
    ----------
    topic
        Name of the topic.
    message
        Name of the message and of its schema file; `dead-letter` has no schema, since it holds the original bytes.
    action
        What the pipeline does with the topic.
    summary
        One sentence.
    key
        Description of the record key; `None` if there is none.
    cloud_events
        Whether CloudEvents headers are honoured.
    """

    topic: str
    message: str
    action: Literal["send", "receive"]
    summary: str
    key: str | None = "The user id, UTF-8."
    cloud_events: bool = False


_CHANNELS = (
    _Channel(CLICKS, "click", "receive", "A user opened an item.", cloud_events=True),
    _Channel(PURCHASES, "purchase", "receive", "A user bought an item.", cloud_events=True),
    _Channel(FEEDBACK, "feedback", "receive", "A user did something else with an item.", cloud_events=True),
    _Channel(
        ITEMS,
        "item",
        "receive",
        "Metadata of an item; a null value deletes the item.",
        key="The item id, UTF-8; also as JSON text, or as a JSON object with the id in `item_id` or `id`. A record "
        "whose key names another item is refused.",
    ),
    _Channel(IMPRESSIONS, "impression", "receive", "A list was actually shown. Optional."),
    _Channel(USER_INTERESTS, "user-interest", "send", "A user's interest state after new events."),
    _Channel(RECOMMENDATIONS, "topk-list", "send", "A user's new list, always complete."),
    _Channel(MODEL_UPDATES, "model-update", "send", "A part of a model version.", key=None),
    _Channel(
        MODEL_VERSIONS,
        "model-versions",
        "send",
        "The kept versions and their status, always complete.",
        key="Always `versions`.",
    ),
    _Channel(
        STORE_IDENTITIES,
        "store-identity",
        "send",
        "The store that this installation uses.",
        key="`Redis` or `PostgreSQL`.",
    ),
    _Channel(MODEL_CONTROL, "model-command", "receive", "A command to the trainer.", key=None),
    *(
        _Channel(
            dead_letter_topic(topic),
            "dead-letter",
            "send",
            "A record that no retry can fix: the original key and value, and headers with the reason.",
            key="The original key.",
        )
        for topic in PRODUCED_TOPICS
    ),
)


def asyncapi_document() -> dict[str, Any]:
    """Return the document."""
    topics = {topic.name: topic for topic in TOPICS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streamrec",
            "version": __version__,
            "description": "Clicks, purchases and other feedback in, fresh personal top-K lists out. Unknown fields "
            "are ignored; fields added later are optional. An optional field that cannot be read is dropped and "
            "counted.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {channel.topic: _channel(channel, topics[channel.topic]) for channel in _CHANNELS},
        "operations": {
            f"{channel.action}-{channel.topic}": {
                "action": channel.action,
                "channel": {"$ref": f"#/channels/{channel.topic}"},
                "summary": channel.summary,
            }
            for channel in _CHANNELS
        },
        "components": {"messages": {channel.message: _message(channel) for channel in _CHANNELS}},
    }


def _channel(channel: _Channel, topic: Topic) -> dict[str, Any]:
    described: dict[str, Any] = {
        "address": topic.name,
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }
    binding: dict[str, Any] = {} if topic.partitioned else {"partitions": 1}
    if topic.config:
        binding["topicConfiguration"] = {
            name: [value] if name in _LIST_CONFIGURATION else int(value) for name, value in topic.config.items()
        }
    if binding:
        described["bindings"] = {"kafka": binding}
    return described


def _message(channel: _Channel) -> dict[str, Any]:
    message: dict[str, Any] = {"name": channel.message, "summary": channel.summary}
    if channel.message == "dead-letter":
        message["contentType"] = "application/octet-stream"
        message["headers"] = _schema("dead-letter-headers")
    else:
        message["payload"] = _schema(channel.message)
    if channel.cloud_events:
        message["headers"] = {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": description} for name, description in _CLOUD_EVENT.items()
            },
        }
    if channel.key is not None:
        message["bindings"] = {"kafka": {"key": {"type": "string", "description": channel.key}}}
    return message


def _schema(name: str) -> dict[str, Any]:
    return {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"./{name}.schema.json"}}
