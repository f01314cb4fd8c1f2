"""Installations that share servers share nothing else, and a stranger's store is refused."""

from __future__ import annotations

import time

import pytest
import redis

from streamrec.adapters.kafka import create_topics
from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.postgres import RetentionReader
from streamrec.adapters.postgres.migrate import migrate
from streamrec.adapters.redis import TopKReader
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.local.valkey import start_valkey
from workers.identity import store_check

GROUPS = {"streamrec-interests": ("clicks", "purchases"), "streamrec-recall": ("user-interests",)}


def click(user_id, item_id):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": int(time.time() * 1_000)}


def lists_of(settings):
    with redis.Redis.from_url(settings.require_redis_url()) as client:
        return {key.decode() for key in client.scan_iter(match="*rec:*")}


def test_two_installations_on_the_same_servers_share_nothing(pipeline):
    shop2 = pipeline.settings.model_copy(update={"installation": "shop2"})
    create_topics(shop2.require_kafka(), shop2.partitions, shop2.replication)
    migrate(shop2.require_postgres_url(), installation="shop2")
    names = ("interests", "trainer", "recall", "retention")
    pipeline.start(*names)
    pipeline.start(*names, installation="shop2")
    pipeline.produce("clicks", [click("ours", f"i{n}") for n in range(5)])
    pipeline.produce("shop2.clicks", [click("theirs", f"j{n}") for n in range(5)])
    reader = TopKReader(shop2.require_redis_url(), installation="shop2")
    ours = pipeline.wait(lambda: (found := pipeline.reader.read("ours")) and len(found.items) == 5 and found, "ours")
    theirs = pipeline.wait(lambda: (found := reader.read("theirs")) and len(found.items) == 5 and found, "theirs")
    assert set(ours.items.ids) == {f"i{n}" for n in range(5)}
    assert set(theirs.items.ids) == {f"j{n}" for n in range(5)}
    assert lists_of(shop2) >= {"rec:ours", "shop2:rec:theirs"}
    assert not lists_of(shop2) & {"rec:theirs", "shop2:rec:ours"}
    for settings, clicks in ((pipeline.settings, 5), (shop2, 5)):
        pipeline.wait(lambda: not sum(part.lag for part in read_lag(settings.require_kafka(), GROUPS)), "no lag")  # noqa: B023
        report = RetentionReader(settings.require_postgres_url(), installation=settings.installation).report
        pipeline.wait(lambda: [arm.clicks for arm in report().arms] == [clicks], "retention")  # noqa: B023
    assert shop2.checkpoint_dir.parent.name == "shop2"


@pytest.fixture
def stranger(tmp_path, pipeline):
    """Run the Redis of another shop."""
    with pipeline.spare_server(lambda guardian: start_valkey(tmp_path / "stranger", guardian)) as server:
        yield server.address


def test_a_second_shop_with_a_redis_of_its_own_is_refused_by_name_while_the_first_one_works(pipeline, stranger):
    pipeline.start("interests")
    pipeline.produce("clicks", [click("ours", "i1")])
    pipeline.wait_until_folded()
    (worker,) = pipeline.start("interests", redis_url=stranger)
    assert worker.wait(60) == 1
    assert "STREAMREC_INSTALLATION=shop2" in pipeline.log("interests")
    with redis.Redis.from_url(stranger) as client:
        assert not client.keys("*")


def test_a_redis_of_another_installation_is_refused_until_it_is_adopted(pipeline, stranger):
    (first,) = pipeline.start("interests")
    pipeline.produce("clicks", [click("ours", "i1")])
    pipeline.wait_until_folded()
    first.kill()
    with redis.Redis.from_url(stranger) as client:
        client.set("identity", "of another shop")
    (worker,) = pipeline.start("interests", redis_url=stranger)
    assert worker.wait(60) == 1
    assert "belongs to another installation" in pipeline.log("interests")
    moved = pipeline.settings.model_copy(update={"redis_url": type(pipeline.settings.redis_url)(stranger)})
    identity = RedisIdentity(moved.require_redis_url(), installation=moved.installation)
    assert store_check(moved, identity).adopt() == "of another shop"
    pipeline.start("interests", redis_url=stranger)
    with redis.Redis.from_url(stranger) as client:
        pipeline.wait(lambda: client.exists("interest:ours"), "the state in the adopted store")
