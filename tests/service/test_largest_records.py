"""Settings that cannot fit a topic's real limit are refused, and topics that are created fit."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher

from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems
from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.domain.interest import DISLIKED_ITEMS, FoldRules
from streamrec.domain.seen import SEEN_ITEMS
from streamrec.errors import UnfitServerError
from streamrec.model.ranking.updates import Learned, to_records
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.largest_records import (
    ESCAPED,
    PLAIN,
    UNICODE,
    created_limits,
    largest_interest,
    largest_list,
    needs_of_interests,
    needs_of_recall,
    needs_of_retention,
    needs_of_trainer,
    require_room,
)
from streamrec.service.list_aging import hide
from streamrec.service.list_record import list_record
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import size_of
from streamrec.settings import Settings


@pytest.mark.parametrize("character", [PLAIN, UNICODE, ESCAPED])
def test_no_record_of_a_state_is_larger_than_the_largest(character):
    publisher = MemoryPublisher()
    publisher.rooms["user-interests"] = 1 << 30
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(200))
    name = character * 254
    events = [
        click(character * 256, f"{n % 90:02}{name}", NOW_MS - 1_000 + n, category=f"{n % 80:02}{name}")
        for n in range(1_000 - DISLIKED_ITEMS)
    ]
    disliked = [
        click(character * 256, f"{n:03}{name[1:]}", NOW_MS - 2_000 + n, type="dislike") for n in range(DISLIKED_ITEMS)
    ]
    headers = {"traceparent": bytes(512), "tracestate": bytes(512)}
    fold.handle(batch(part("feedback", disliked), part("clicks", events, headers=headers)))

    size = size_of(publisher.records[0])
    assert 0.8 * largest_interest(200, character) < size <= largest_interest(200, character)


def test_no_list_is_larger_than_the_largest():
    topk = TopKList(
        state_version=1,
        list_id="l",
        user_id="u",
        items=ListedItems.of([]),
        model_version="m",
        arm="personal",
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS,
        made_at_ms=NOW_MS,
        rebuilt=True,
        hidden=hide(f"i{n}" for n in range(Settings(sequence_length=1_000).sequence_length + SEEN_ITEMS)),
    )
    assert size_of(list_record(topk, {}, 1 << 30)[0]) < largest_list(0, PLAIN)


def test_the_default_settings_fit_the_default_limit_whatever_the_ids():
    settings = Settings()
    assert largest_interest(settings.sequence_length, ESCAPED) < BROKER_MAX_MESSAGE_BYTES
    assert largest_list(settings.top_k, ESCAPED) < BROKER_MAX_MESSAGE_BYTES
    assert created_limits(settings.sequence_length, settings.top_k) == {}


def test_topics_are_created_with_room_for_the_largest_settings():
    limits = created_limits(1_000, 1_000)
    assert limits["user-interests"] >= largest_interest(1_000, UNICODE) > BROKER_MAX_MESSAGE_BYTES
    assert limits["recommendations"] >= largest_list(1_000, UNICODE) > BROKER_MAX_MESSAGE_BYTES


def test_a_part_of_a_model_version_fits_the_room_that_the_trainer_asks_for():

    learned = Learned(NOW_MS, 1 << 53, dict.fromkeys(range(1024), 1 << 53))
    parts = to_records("snapshot", "v" * 256, "v" * 256, learned, {"a": np.zeros(2_000_000, np.uint8)})
    (need,) = needs_of_trainer()
    assert max(size_of(Outgoing("model-updates", None, value)) for value in parts) <= need.room
    assert need.room < BROKER_MAX_MESSAGE_BYTES
    assert msgspec.json.decode(parts[0])["parts"] == len(parts)


@pytest.mark.parametrize(
    ("topic", "room", "needs", "variable"),
    [
        ("user-interests", 500_000, needs_of_interests(1_000), "STREAMREC_SEQUENCE_LENGTH"),
        ("recommendations", 250_000, needs_of_recall(1_000), "STREAMREC_TOP_K"),
        ("clicks.dlq", 4_000, needs_of_interests(50), "max.message.bytes"),
        ("items.dlq", 4_000, needs_of_retention(), "max.message.bytes"),
        ("model-updates", 500_000, needs_of_trainer(), "max.message.bytes"),
    ],
)
def test_a_topic_with_too_small_a_limit_is_named_with_the_setting(topic, room, needs, variable):
    publisher = MemoryPublisher()
    require_room(publisher, needs)
    publisher.rooms[topic] = room
    with pytest.raises(UnfitServerError, match=f"Kafka: {topic} limits records to {room:,} bytes") as caught:
        require_room(publisher, needs)
    assert variable in str(caught.value)
