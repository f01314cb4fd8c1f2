"""Playing turns: what is scored, against which list, and what is held back."""

from __future__ import annotations

import msgspec
from doubles import MemoryPublisher

from streamrec.contracts.derived import TopKList
from streamrec.contracts.incoming import Click
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.playback.backpressure import MAX_IN_FLIGHT, MIN_IN_FLIGHT, Throttle
from streamrec.playback.player import Player
from streamrec.playback.turns import HIT_AT, Play, PlayedEvent, Turn, hold_back, shop_turns
from streamrec.simulated_shop import SimulatedShop

NOON_MS = 1_700_000_000_000


class Lists:
    """A reader of lists that a test fills."""

    def __init__(self, lists):
        self.lists = lists

    def read_many(self, user_ids):
        return [self.lists.get(user_id) for user_id in user_ids]


def a_list(*item_ids):
    return TopKList(
        state_version=1,
        list_id="l1",
        user_id="u",
        items=ListedItems.of([ListItem(item_id, 1.0, Reason("model")) for item_id in item_ids]),
        model_version="m",
        arm="personal",
        event_time_ms=NOON_MS,
        produced_at_ms=NOON_MS,
        made_at_ms=NOON_MS,
    )


def turn(user_id, item_id, *, scored=True):
    event = PlayedEvent(Click(user_id=user_id, item_id=item_id, event_time_ms=NOON_MS), scored)
    return Turn(user_id, lambda _shown: Play([event]))


def new_player(lists):
    publisher = MemoryPublisher()
    return Player(Lists(lists), publisher, hide_seen=True, sequence_length=50), publisher


def test_an_event_hits_if_its_item_is_among_the_first_ten():
    items = [f"i{n}" for n in range(HIT_AT + 1)]
    player, publisher = new_player({"u1": a_list(*items)})
    player.play([turn("u1", "i9"), turn("u1", "i10"), turn("u2", "i9")])

    assert player.hit_rate == 1 / 3
    assert [record.topic for record in publisher.records] == ["clicks"] * 3


def test_what_a_list_brought_about_is_not_scored():
    player, _ = new_player({"u1": a_list("i1")})
    player.play([turn("u1", "i1", scored=False), turn("u1", "i2")])

    assert (player.events, player.scored, player.hit_rate) == (2, 1, 0.0)


def test_a_turn_waits_for_the_list_that_knows_its_users_last_event(monkeypatch):
    lists = {}
    player, publisher = new_player(lists)
    first, second, third = (turn("u1", f"i{n}") for n in range(3))
    other = turn("u2", "i0")

    assert player.play_up_to_date([first, second, other]) == [second]
    assert player.play_up_to_date([second, third]) == [second, third]
    assert player.events == 2
    lists["u1"] = msgspec.structs.replace(a_list("i1"), user_id="u1")
    assert player.play_up_to_date([second, third]) == [third]
    assert player.hit_rate == 1 / 3

    lists.clear()
    monkeypatch.setattr("streamrec.playback.player.PATIENCE_S", 0.0)
    assert player.play_up_to_date([third]) == []
    assert len(publisher.records) == 4


def test_popularity_knows_what_was_produced_when_the_lists_were_read():
    player, _ = new_player({})
    player.play([turn("u1", "i1"), turn("u2", "i1")])
    assert player.popular_hit_rate == 0.0

    player.play([turn("u3", "i1")])
    assert player.popular_hit_rate == 1 / 3


def test_lists_are_compared_with_ten_lines_of_code_and_with_the_best_lists_possible():
    player, _ = new_player({})
    player.scores_lists = False
    player.play([turn("u1", "i1"), turn("u2", "i1")])
    assert (player.scored, player.oracle_hit_rate) == (0, None)

    player.scores_lists = True
    knows, does_not = (turn("u3", "i1")._replace(best=lambda best=best: [best]) for best in ("i1", "i2"))
    player.play([knows, does_not])
    assert (player.yardstick_hit_rate, player.oracle_hit_rate) == (1.0, 0.5)
    assert (player.events, player.scored) == (4, 2)


def test_the_last_turns_are_held_back():
    turns = [turn("u1", f"i{n}") for n in range(5)]
    first, last = hold_back(iter(turns), 2)

    assert list(first) == turns[:3]
    assert list(last) == turns[3:]


def test_a_visit_brings_items_and_events_that_follow_the_list_that_was_shown():
    shop = SimulatedShop(1, users=30, days=5)
    shown = a_list(*(item.item_id for item in shop.items))
    plays = [turn.play(shown) for turn in shop_turns(shop)]
    events = [event for play in plays for event in play.events]

    assert {record.topic for play in plays for record in play.items} == {"items"}
    assert {event.message.list_id for event in events if not event.scored} == {"l1"}
    assert {event.message.list_id for event in events if event.scored} == {None}


def test_the_throttle_opens_while_playing_is_behind_its_time_and_closes_again():
    throttle = Throttle(total=1_000, budget_s=10.0)

    assert throttle.adapt(played=500, elapsed_s=1.0) == MIN_IN_FLIGHT
    opened = [throttle.adapt(played=0, elapsed_s=5.0) for _ in range(100)]
    assert opened == sorted(opened)
    assert opened[-1] == MAX_IN_FLIGHT
    assert throttle.adapt(played=900, elapsed_s=5.0) < MAX_IN_FLIGHT
