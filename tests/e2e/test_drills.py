"""What an operator would try by hand: break one thing, see it named, mend it, see that all is well again."""

from __future__ import annotations

import itertools
import shutil
import signal
import time

import psycopg2
import pytest
import redis
import requests
from confluent_kafka.admin import AdminClient
from kafka_topics import recreate_topic
from pipeline import Pipeline, stop
from waiting import DEADLINE_S

from streamrec.local import local_stack
from streamrec.metrics import find_endpoints
from streamrec.monitor.scrape import parse
from streamrec.settings import Settings

LAG_LIMIT_S = 3.0
BEHIND_S = 5.0
"""What the drill of the model's age waits for; the alert waits for ten minutes."""

WORKERS = ("interests", "trainer", "recall", "retention")

EMPTY_RETENTION = "TRUNCATE position, retention_user, activity, daily_count, followed_list, calendar"


def click(user_id, item_id):
    return {"user_id": user_id, "item_id": item_id, "event_time_ms": int(time.time() * 1_000)}


class Drill:
    """A pipeline with its monitor."""

    def __init__(self, stack, pipeline):
        self.stack, self.pipeline = stack, pipeline
        self.processes = dict(zip(WORKERS, pipeline.start(*WORKERS), strict=True))
        pipeline.start("monitor")
        self.url = pipeline.wait(self._address, "the monitor")

    def _address(self):
        found = [point for point in find_endpoints(self.stack.settings) if point.worker == "monitor"]
        return f"http://127.0.0.1:{found[0].port}" if found else None

    def get(self, path):
        return requests.get(self.url + path, timeout=DEADLINE_S).text

    def causes(self):
        """Return why the monitor says that the pipeline is not ready."""
        answered = requests.get(self.url + "/readyz", timeout=DEADLINE_S)
        said = answered.json()
        assert answered.status_code == (200 if said["ready"] else 503)
        return said["causes"]

    def wait_until_ready(self):
        self.click()
        self.pipeline.wait(lambda: not self.causes(), "the pipeline to keep up")

    def wait_for_cause(self, *words, without=None):
        def named():
            causes = self.causes()
            return any(all(word in cause for word in words) for cause in causes) and not any(
                without in cause for cause in causes if without
            )

        self.pipeline.wait(named, f"a cause with {words}")

    def click(self):
        self.pipeline.produce("clicks", [click("u1", "i1")])

    def start(self, *names):
        self.processes |= dict(zip(names, self.pipeline.start(*names), strict=True))

    def stop(self, *names):
        for name in names:
            assert stop(self.processes[name]) == 0

    def newest(self, stage):
        """Return when the newest event was produced whose effect can be seen at a stage, as the alert knows it."""
        found = []
        for endpoint in find_endpoints(self.stack.settings):
            if endpoint.worker != "monitor":
                try:
                    text = requests.get(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=DEADLINE_S).text
                except requests.ConnectionError:
                    continue  # it has just died
                said = parse(endpoint, text)
                name = "streamrec_newest_effect_timestamp_seconds"
                found.append(said.gauges.get((name, (("stage", stage),)), 0.0))
        return max(found)

    def model_age_s(self):
        return self.newest("interests") - self.newest("model")


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("drill"), monitor_port=0, lag_limit_s=LAG_LIMIT_S)
    with local_stack(settings, progress=False) as stack, Pipeline(stack) as pipeline:
        running = Drill(stack, pipeline)
        running.wait_until_ready()
        yield running


def test_a_worker_that_stops_is_named_until_another_one_has_caught_up(drill):
    assert stop(drill.processes["interests"]) == 0
    drill.wait_for_cause("streamrec-interests has no member")
    drill.click()
    drill.wait_for_cause("streamrec-interests is", f"more than {LAG_LIMIT_S:g} s")
    assert 'data-lag="streamrec-interests">1<' in drill.get("/")

    (drill.processes["interests"],) = drill.pipeline.start("interests")
    drill.wait_until_ready()


def test_poison_is_a_dead_letter_with_its_reason(drill):
    drill.pipeline.produce("clicks", [b"{poison"])
    drill.pipeline.wait(lambda: "{poison" in drill.get("/"), "the letter on the page")

    assert "bad-json" in drill.get("/")
    drill.pipeline.wait(lambda: not drill.causes(), "no cause: bad data is no reason to call the pipeline late")


def test_a_model_whose_trainer_died_is_seen_to_age(drill):
    drill.pipeline.wait(lambda: drill.newest("model"), "a model")
    drill.processes["trainer"].send_signal(signal.SIGKILL)

    def aged():
        drill.click()
        return drill.model_age_s() > BEHIND_S

    drill.pipeline.wait(aged, "the model to be behind")
    drill.wait_for_cause("streamrec-trainer has no member")

    (drill.processes["trainer"],) = drill.pipeline.start("trainer")
    drill.wait_until_ready()
    drill.pipeline.wait(lambda: drill.model_age_s() < BEHIND_S, "the model to have learned the rest")


def test_redis_that_is_away_is_named(drill):
    drill.stack.servers["redis_url"].stop()
    drill.wait_for_cause("Redis does not answer")

    drill.stack.start("redis_url")
    drill.wait_until_ready()


def test_a_redis_that_has_evicted_states_is_named_until_they_are_rebuilt(drill):
    """As the runbook has it; what is evicted is gone, and the log has it still."""
    pipeline = drill.pipeline
    with redis.Redis.from_url(pipeline.settings.require_redis_url()) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        number = itertools.count()

        def evicted():
            pipeline.produce("clicks", [click(f"evicted-{next(number)}", "i1") for _ in range(50)])
            return client.info("stats")["evicted_keys"]

        pipeline.wait(evicted, "an eviction")
        drill.wait_for_cause("it evicts keys")
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        drill.wait_for_cause("it has evicted", without="it evicts keys")

        drill.stop("interests", "recall")
        client.flushdb()
        client.config_resetstat()
    drill.start("interests", "recall")
    drill.wait_until_ready()
    pipeline.wait_until_folded()
    verdict = pipeline.judge()
    assert (verdict.missing, verdict.state_mismatches) == (0, 0), verdict.notes


def test_topics_that_were_recreated_are_named_and_read_again(drill):
    """As the procedure has it: with empty stores; what workers read whole needs nothing."""
    pipeline = drill.pipeline
    recreate(pipeline.settings, "model-updates")
    pipeline.wait(lambda: "everything is published" in pipeline.log("trainer"), "the whole model")
    pipeline.wait(lambda: "topic was re-created" in pipeline.log("recall"), "recall to read it from its beginning")
    drill.wait_until_ready()
    for topic in ("clicks", "purchases", "user-interests"):
        recreate(pipeline.settings, topic)
    drill.wait_for_cause("interests has paused itself", "was re-created")

    drill.stop(*WORKERS)
    with redis.Redis.from_url(pipeline.settings.require_redis_url()) as client:
        client.flushdb()
    with psycopg2.connect(pipeline.settings.require_postgres_url()) as connection, connection.cursor() as cursor:
        cursor.execute(EMPTY_RETENTION)
    shutil.rmtree(pipeline.settings.checkpoint_dir)
    pipeline.connect_producer()
    pipeline.produce("clicks", [click(f"u{number}", f"i{number % 7}") for number in range(100)])
    drill.start(*WORKERS)
    drill.wait_until_ready()
    pipeline.wait_until_folded()
    verdict = pipeline.judge()
    # dead letters of the old topic are there still
    assert (verdict.missing, verdict.state_mismatches) == (0, 0), verdict.notes


def recreate(settings, topic):
    """Delete a topic and create it again as it was."""
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    partitions = len(admin.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions)
    recreate_topic(admin, topic, partitions)
