"""The identities that real stores hold, and the register on the broker."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
from confluent_kafka.admin import AdminClient
from kafka_topics import make_topic

from streamrec.adapters.directory_identity import DirectoryIdentity
from streamrec.adapters.kafka import identities
from streamrec.adapters.kafka.identities import KafkaIdentityRegister
from streamrec.adapters.postgres.identity import PostgresIdentity
from streamrec.adapters.postgres.migrate import migrate
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.errors import TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Batch, Record, Slice, TopicPartition


@pytest.fixture(params=["redis", "postgres", "directory"])
def store_of(request, tmp_path):
    """Return what opens the store of an installation."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        return lambda installation: RedisIdentity(url, installation=installation)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        migrate(url, installation="shop2")
        return lambda installation: PostgresIdentity(url, installation=installation)
    return lambda installation: DirectoryIdentity(tmp_path / installation / "model")


def test_a_store_keeps_the_first_identity_that_was_claimed(store_of):
    store = store_of("")
    assert store.identity() == ""
    assert store.claim("a") == "a"
    assert store.claim("b") == "a"
    assert store_of("").identity() == "a"


def test_two_installations_on_one_server_have_two_identities(store_of):
    store_of("").claim("a")
    assert store_of("shop2").identity() == ""
    assert store_of("shop2").claim("b") == "b"
    assert store_of("").identity() == "a"


def test_the_register_returns_the_newest_identity_of_each_store(kafka_bootstrap):
    kafka = KafkaAccess(kafka_bootstrap, installation="registered")
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    topic = kafka.on_broker("store-identities")
    make_topic(admin, topic)
    register = KafkaIdentityRegister(kafka)
    assert register.read("Redis") == ""
    register.write("Redis", "a")
    register.write("PostgreSQL", "p")
    register.write("Redis", "b")
    assert (register.read("Redis"), register.read("PostgreSQL")) == ("b", "p")


def test_what_others_write_on_the_topic_of_identities_ends_no_worker(monkeypatch):
    key = b"Redis"
    values = [b'{"identity":"a"}', b"garbage", b'{"identity":7}', b'{"identity":""}']
    records = [Record(offset, 1, key, value, {}) for offset, value in enumerate(values)]
    reader = SimpleNamespace(caught_up=False, close=lambda: None)

    def poll(_timeout_s):
        reader.caught_up = True
        return Batch([Slice(TopicPartition("store-identities", 0), 0, len(records), records)])

    reader.poll = poll
    monkeypatch.setattr(identities, "BroadcastReader", lambda **_: reader)
    assert KafkaIdentityRegister(KafkaAccess("unused:9092")).read("Redis") == "a"


def test_an_identity_that_a_full_disk_left_empty_is_none(tmp_path):
    (tmp_path / "identity").touch()
    store = DirectoryIdentity(tmp_path)
    assert store.identity() == ""
    assert (store.claim("a"), store.identity()) == ("a", "a")


def test_a_directory_that_cannot_be_used_is_waited_for(tmp_path):
    (tmp_path / "file").touch()
    store = DirectoryIdentity(tmp_path / "file" / "model")
    for use in (store.identity, partial(store.claim, "a")):
        with pytest.raises(TransientError, match="identity of the checkpoints"):
            use()
