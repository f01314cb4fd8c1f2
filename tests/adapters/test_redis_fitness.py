"""An assumption about a server is checked: eviction, replication, persistence and the kind of server."""

from __future__ import annotations

import pytest
import redis
from builders import NOW_MS

from streamrec.adapters.redis import RedisInterestStore, RedisTopKStore
from streamrec.adapters.redis.client import connect
from streamrec.adapters.redis.server import RedisFitness, fitness, require_fit
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import FoldRules
from streamrec.errors import StreamrecError, TransientError, UnfitServerError
from streamrec.local.guardian import Guardian
from streamrec.local.server import Server, answers, choose_port, wait_until
from streamrec.local.valkey import get_binary_path, start_valkey
from streamrec.service.batch import TopicPartition

SOURCE = TopicPartition("clicks", 0)


@pytest.fixture(scope="module")
def guardian():
    with Guardian() as guardian:
        yield guardian


@pytest.fixture(scope="module")
def url(guardian, tmp_path_factory):
    """Run a Valkey of our own: its settings are changed here."""
    server = start_valkey(tmp_path_factory.mktemp("valkey"), guardian)
    yield server.address
    server.stop()


@pytest.fixture
def admin(url):
    with redis.Redis.from_url(url, decode_responses=True) as client:
        settings = ("maxmemory", "maxmemory-policy", "appendonly", "save", "min-replicas-to-write")
        before = {name: client.config_get(name)[name] for name in settings}
        yield client
        client.replicaof("NO", "ONE")
        for name, value in before.items():
            client.config_set(name, value)
        client.config_resetstat()
        client.flushall()


@pytest.fixture
def client(url):
    with connect(url) as client:
        yield client


def write(url):
    """Write a state as `interests` does."""
    store = RedisInterestStore(url, state_ttl_days=1)
    snapshot = store.load(["u1"], [SOURCE])
    snapshot.states["u1"].fold(Event("u1", "i1", NOW_MS, Source(EventType.CLICK, 0), offset=0), FoldRules(5))
    return store.compare_and_set(snapshot)


def test_the_server_that_up_starts_is_fit(client):
    assert fitness(client) == RedisFitness()
    assert require_fit(client) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl", "volatile-lfu"])
def test_a_server_that_evicts_is_refused_and_told_what_to_set(policy, admin, client):
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", policy)
    with pytest.raises(UnfitServerError) as caught:
        require_fit(client)
    assert f"maxmemory-policy is {policy}" in str(caught.value)
    assert "CONFIG SET maxmemory-policy noeviction" in str(caught.value)
    assert "104,857,600 bytes" in str(caught.value)

    admin.config_set("maxmemory-policy", "noeviction")
    assert require_fit(client) == []


def test_a_policy_without_a_limit_evicts_nothing(admin, client):
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert require_fit(client) == []


def test_keys_that_were_evicted_are_a_loss_that_is_told_until_it_is_reset(admin, client):
    admin.config_set("maxmemory-policy", "allkeys-lru")
    for n in range(100):
        admin.set(f"filler:{n}", "x" * 1_000_000)
    admin.config_set("maxmemory", "20mb")
    admin.set("one-more", "x")
    admin.config_set("maxmemory", 0)
    admin.config_set("maxmemory-policy", "noeviction")

    (loss,) = fitness(client).losses
    assert "has evicted" in loss
    assert require_fit(client) == [loss]
    admin.config_resetstat()
    assert fitness(client).losses == []


def test_a_replica_is_refused_and_a_write_to_it_waits(url, admin, client):
    assert write(url)
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(UnfitServerError, match=r"this is a replica of 127\.0\.0\.1:1; use the address of the primary"):
        require_fit(client)
    with pytest.raises(TransientError, match="read only replica"):
        write(url)


@pytest.mark.parametrize("of_store", [True, False])
def test_a_server_that_is_not_the_primary_any_more_is_left_for_where_the_address_leads_now(of_store, url, admin):
    store = RedisInterestStore(url, state_ttl_days=1)
    before = store._redis.client_id()
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(TransientError):
        store.compare_and_set(store.load(["u1"], [SOURCE])) if of_store else store.check()
    assert store._redis.client_id() != before


def test_a_server_without_enough_replicas_takes_the_write_later(url, admin):
    admin.config_set("min-replicas-to-write", 1)
    with pytest.raises(TransientError, match="NOREPLICAS"):
        write(url)
    admin.config_set("min-replicas-to-write", 0)
    assert write(url)


def test_a_right_that_is_taken_away_and_given_back_is_waited_for(url, admin):
    admin.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all")
    own = url.replace("redis://", "redis://worker:secret@")
    assert write(own)
    for taken, given in (("-set", "+set"), ("-mget", "+mget"), ("resetkeys", "~*"), ("resetpass", ">secret")):
        admin.execute_command("ACL", "SETUSER", "worker", taken)
        admin.execute_command("CLIENT", "KILL", "USER", "worker")
        with pytest.raises(TransientError):
            write(own)
        admin.execute_command("ACL", "SETUSER", "worker", given)
        write(own)
    admin.execute_command("ACL", "DELUSER", "worker")


@pytest.mark.parametrize("rules", [["-info"], ["-info", "-config"]])
def test_a_server_that_may_not_be_asked_is_a_warning(rules, url, admin):
    admin.execute_command("ACL", "SETUSER", "asker", "on", ">secret", "~*", "+@all", *rules)
    with connect(url.replace("redis://", "redis://asker:secret@")) as asker:
        (warning,) = require_fit(asker)
    assert "nothing can be checked" in warning
    admin.execute_command("ACL", "DELUSER", "asker")


@pytest.mark.parametrize("rules", [[], ["-config"]])
def test_a_server_that_keeps_nothing_on_disk_is_a_warning(rules, url, admin):
    admin.config_set("appendonly", "no")
    admin.execute_command("ACL", "SETUSER", "asker", "on", ">secret", "~*", "+@all", *rules)
    with connect(url.replace("redis://", "redis://asker:secret@")) as asker:
        (warning,) = require_fit(asker)
    assert "does not persist data" in warning
    admin.execute_command("ACL", "DELUSER", "asker")


def test_snapshots_are_enough_to_keep_data(admin, client):
    admin.config_set("appendonly", "no")
    admin.config_set("save", "3600 1")
    assert require_fit(client) == []


def test_both_stores_are_checked(url, admin):
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    for store in (RedisInterestStore(url, state_ttl_days=1), RedisTopKStore(url, list_ttl_days=1)):
        with pytest.raises(UnfitServerError):
            store.check()


def test_a_redis_cluster_is_refused_in_one_line(guardian, tmp_path):
    port = choose_port(tmp_path, "cluster")
    command = [
        get_binary_path(),
        "--port",
        str(port),
        "--cluster-port",
        str(choose_port(tmp_path, "bus")),
        "--save",
        "",
    ]
    log = tmp_path / "log"
    process = guardian.spawn([*command, "--dir", str(tmp_path), "--cluster-enabled", "yes"], log=log)
    wait_until(lambda: answers(port), process, name="a cluster", log=log)
    url = f"redis://127.0.0.1:{port}/0"
    with connect(url) as client, pytest.raises(UnfitServerError, match="this is a Redis Cluster") as caught:
        require_fit(client)
    assert "\n" not in str(caught.value)
    with pytest.raises(StreamrecError):
        write(url)
    Server("cluster", url, process).stop()


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"maxmemory_policy": "volatile-lru"}, "it evicts keys, including"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1, "aof_enabled": 1}, "it evicts keys"),
        ({"redis_mode": "cluster"}, "Redis Cluster"),
        ({"cluster_enabled": 1}, "Redis Cluster"),
        ({"redis_mode": "sentinel"}, "Sentinel"),
        ({"role": "slave", "master_host": "h", "master_port": 1}, "replica of h:1"),
    ],
)
def test_servers_of_other_makes_are_judged_by_what_they_say(about, word):
    class Told:
        def info(self):
            return about

        def config_get(self, _name):
            raise redis.ResponseError("unknown command 'CONFIG'")

    (fault,) = fitness(Told()).faults
    assert word in fault


def test_a_server_that_says_nothing_of_eviction_is_a_warning():
    class Told:
        def info(self):
            return {"redis_version": "7.0.0"}

        def config_get(self, _name):
            raise redis.ResponseError("unknown command 'CONFIG'")

    assert any("does not report whether it evicts" in warning for warning in require_fit(Told()))
