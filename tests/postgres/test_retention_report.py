"""What the report says, against a plain count, and while workers write."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import msgspec
import pytest
from builders import NOW_MS, batch, part
from doubles import MemoryPublisher
from sqlalchemy import event as hooks

from streamrec.adapters.postgres import PostgresRetentionStore, RetentionReader
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.domain.interest import DAY_MS
from streamrec.domain.retention import REACH_DAYS
from streamrec.service.record_retention import RecordRetention

START_DAY = NOW_MS // DAY_MS - 200
START_MS = START_DAY * DAY_MS


def arm_of(user_id):
    return "control" if user_id.startswith("c") else "personal"


def recorder(url, assigned=arm_of):
    return RecordRetention(PostgresRetentionStore(url), MemoryPublisher(), arm_of=assigned, follow_window_minutes=30)


def click(user_id, day=0, item_id="a", **fields):
    at_ms = START_MS + day * DAY_MS + 1_000
    return json.dumps({"user_id": user_id, "item_id": item_id, "event_time_ms": at_ms, **fields}).encode()


def made(user_id, list_id, *item_ids):
    return msgspec.json.encode(
        TopKList(
            state_version=1,
            list_id=list_id,
            user_id=user_id,
            items=ListedItems.of([ListItem(item_id, 1.0, Reason("model")) for item_id in item_ids]),
            model_version="m",
            arm=arm_of(user_id),
            event_time_ms=START_MS,
            produced_at_ms=START_MS,
            made_at_ms=START_MS,
        )
    )


def iso(day):
    return datetime.fromtimestamp(START_MS / 1_000 + day * 86_400, UTC).date().isoformat()


@pytest.mark.parametrize("arm", [None, "control", "personal"])
def test_active_users_and_cohorts_equal_a_plain_count(postgres_url, arm):
    rng = random.Random(7)
    seen = [(rng.choice("cp") + str(rng.randrange(12)), rng.choice([rng.randrange(90), 0, 31])) for _ in range(400)]
    recorder(postgres_url).handle(batch(part("clicks", [click(user, day) for user, day in seen])))

    active = {}
    for user, day in seen:
        if arm in {None, arm_of(user)}:
            active.setdefault(user, set()).add(day)
    days = sorted(set().union(*active.values()))

    def within(day, length):
        return sum(bool(mine & set(range(day - length + 1, day + 1))) for mine in active.values())

    found = RetentionReader(postgres_url).report(arm).days
    assert [(each.day, each.active_users, each.weekly_active_users, each.monthly_active_users) for each in found] == [
        (iso(day), within(day, 1), within(day, 7), within(day, 30)) for day in days
    ]
    for day, each in zip(days, found, strict=True):
        cohort = [mine for mine in active.values() if min(mine) == day]
        assert each.new_users == len(cohort)
        assert each.stickiness == pytest.approx(within(day, 1) / within(day, 30))
        for n in (1, 7, 30):
            everybodys = {START_DAY + each for _, each in seen}
            reached = bool(cohort) and any(0 < each - (START_DAY + day + n) <= REACH_DAYS for each in everybodys)
            on_day = sum(day + n in mine for mine in cohort) / len(cohort) if reached else None
            on_day_or_later = sum(max(mine) >= day + n for mine in cohort) / len(cohort) if reached else None
            assert getattr(each, f"day_{n}") == (None if on_day is None else pytest.approx(on_day))
            assert getattr(each, f"rolling_{n}") == (None if on_day is None else pytest.approx(on_day_or_later))


@pytest.mark.parametrize("statement", range(3))
def test_a_report_is_of_one_instant_though_a_worker_writes(postgres_url, statement):
    record = recorder(postgres_url)
    record.handle(batch(part("clicks", [click("u1", 0), click("u1", 1)])))
    reader = RetentionReader(postgres_url)
    before = RetentionReader(postgres_url).report()
    sent = []

    @hooks.listens_for(reader._engine, "after_cursor_execute")
    def write_between_statements(_connection, _cursor, text, *_):
        if "FROM" in text:
            sent.append(text)
        if len(sent) == statement + 1:
            sent.append("written")
            # a new user, whose first day had no cohort when the report began
            record.handle(batch(part("purchases", [click("u2", 1, type="purchase")])))

    assert reader.report() == before
    assert "written" in sent
    assert RetentionReader(postgres_url).report().days[1].new_users == 1


def test_lists_that_were_followed_are_counted_once_each_by_arm(postgres_url):
    record = recorder(postgres_url)
    lists = [made("p1", "l1", "a", "b"), made("c1", "l2", "a")]
    record.handle(batch(part("recommendations", lists)))
    values = [click("p1", item_id="a"), click("p1", item_id="b"), click("c1", item_id="z"), click("p1", list_id="l3")]
    record.handle(batch(part("clicks", values)))

    arms = {
        arm.arm: (arm.lists, arm.followed_lists, arm.followed_clicks)
        for arm in RetentionReader(postgres_url).report().arms
    }
    assert arms == {"personal": (1, 2, 3), "control": (1, 0, 0)}


def test_a_list_stays_the_users_who_followed_it_first(postgres_url):
    record = recorder(postgres_url)
    for start, user in enumerate(("c1", "p1")):
        record.handle(batch(part("clicks", [click(user, list_id="l1")], start=start)))
    arms = {arm.arm: arm.followed_lists for arm in RetentionReader(postgres_url).report().arms}
    assert arms == {"control": 1, "personal": 0}


def test_a_user_moves_with_the_settings(postgres_url):
    recorder(postgres_url, lambda _: "personal").handle(batch(part("clicks", [click("u1")])))
    recorder(postgres_url, lambda _: "control").handle(batch(part("clicks", [click("u1", 1)], start=1)))
    assert [day.active_users for day in RetentionReader(postgres_url).report("control").days] == [1, 1]
    assert RetentionReader(postgres_url).report("personal").days == []


def test_names_of_any_letters_are_stored_unchanged(postgres_url):
    names = ["'; DROP TABLE activity; --", "{a,b}", '"', "\\", "NULL", "", "ü 🛒 %s %(x)s", "a\nb"]
    values = [click(name or "x" * 256, list_id=name or None) for name in names]
    recorder(postgres_url).handle(batch(part("clicks", values)))
    (arm,) = RetentionReader(postgres_url).report().arms
    assert (arm.users, arm.clicks, arm.followed_lists) == (len(names), len(names), len(names) - 1)
