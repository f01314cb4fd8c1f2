"""A broker that asks for a login and speaks TLS is reached by settings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
from secured import KEY_PASSWORD, PASSWORD, USER
from waiting import wait

from streamrec.adapters.kafka import BatchSource, KafkaPublisher, create_topics, lag
from streamrec.adapters.kafka.members import member_hosts
from streamrec.adapters.redis import RedisInterestStore
from streamrec.chaos.oracle import read_all
from streamrec.cli.app import main
from streamrec.environment import variable_name
from streamrec.errors import SettingsError, TransientError, UsageError
from streamrec.local import local_stack
from streamrec.service.ports import Outgoing
from streamrec.settings import Settings

WRONG = "wr0ng-s3cr3t"


@pytest.fixture
def with_certificate(certificates):
    return {
        "kafka_certificate_file": certificates.client,
        "kafka_key_file": certificates.client_key,
        "kafka_key_password": KEY_PASSWORD,
    }


def assert_all_clients_get_in(settings):
    kafka = settings.require_kafka()
    create_topics(kafka, 2, 1)
    value = uuid4().hex.encode()
    KafkaPublisher(kafka).publish([Outgoing("impressions", b"k", value)])
    assert value in {record.value for _, record in read_all(kafka, ["impressions"])}
    assert sum(part.end for part in lag.read_lag(kafka, {"nobody": ["impressions"]})) >= 1

    group = uuid4().hex
    source = BatchSource(kafka=kafka, group=group, topics=["impressions"], positions=lambda _sources: {})
    batch = next(batch for batch in iter(lambda: source.poll(5.0), None) if len(batch))
    assert value in {record.value for _, record in batch} or len(batch)
    assert member_hosts(kafka, group)
    source.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_over_tls(kafka_settings, mechanism):
    assert_all_clients_get_in(kafka_settings("SASL_SSL", kafka_sasl_mechanism=mechanism))


def test_a_password_without_tls(kafka_settings):
    assert_all_clients_get_in(kafka_settings("SASL_PLAINTEXT"))


def test_a_certificate_of_our_own(kafka_settings, with_certificate):
    assert_all_clients_get_in(kafka_settings("SSL", **with_certificate))


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run `streamrec topics` with settings; answer what it says of why it is not let in."""
    monkeypatch.setattr(lag, "_TIMEOUT_S", 3.0)

    def run(settings):
        for variable, value in settings.environment().items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(SystemExit) as exit_info:
            main(["topics"])
        said = capsys.readouterr()
        assert exit_info.value.code != 0
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert not {PASSWORD, WRONG, KEY_PASSWORD} & set(said.err.split())
        assert all(secret not in said.err for secret in (PASSWORD, WRONG, KEY_PASSWORD))
        return said.err

    return run


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_named_and_not_shown(kafka_settings, refused, mechanism):
    message = refused(kafka_settings("SASL_SSL", kafka_password=WRONG, kafka_sasl_mechanism=mechanism))
    assert "Authentication failed" in message


def test_a_broker_that_others_signed_is_not_believed(kafka_settings, refused, certificates):
    message = refused(kafka_settings("SASL_SSL", kafka_ca_file=certificates.other_ca))
    assert "certificate verify failed" in message


def test_a_publisher_says_why_it_is_refused(kafka_settings, monkeypatch):
    monkeypatch.setattr("streamrec.adapters.kafka.publisher.DELIVERY_TIMEOUT_S", 2)
    publisher = KafkaPublisher(kafka_settings("SASL_SSL", kafka_password=WRONG).require_kafka())
    with pytest.raises(TransientError, match="Authentication failed") as error:
        publisher.publish([Outgoing("impressions", b"k", b"v")])
    assert WRONG not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "kafka_username"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_username": USER}, "kafka_password"),
        ({"kafka_username": USER}, "kafka_username"),
        ({"kafka_security_protocol": "SSL", "kafka_password": PASSWORD}, "kafka_password"),
        ({"kafka_ca_file": "ca.pem"}, "kafka_ca_file"),
        ({"kafka_security_protocol": "SSL", "kafka_certificate_file": "c.pem"}, "kafka_key_file"),
        ({"kafka_security_protocol": "SSL", "kafka_key_file": "k.pem"}, "kafka_certificate_file"),
    ],
)
def test_settings_that_would_not_do_what_they_say_are_refused(settings, variable):
    with pytest.raises(SettingsError, match=f"^{variable_name(variable)} is ") as error:
        Settings(kafka="h:1", **settings).require_kafka()
    assert PASSWORD not in str(error.value)


def test_a_file_that_is_no_certificate_is_named(certificates, tmp_path):
    unreadable = tmp_path / "ca.pem"
    unreadable.write_text("no certificate")
    for ca in (unreadable, tmp_path / "nowhere.pem"):
        settings = Settings(kafka="h:1", kafka_security_protocol="SSL", kafka_ca_file=ca)
        with pytest.raises(SettingsError, match="STREAMREC_KAFKA_CA_FILE"):
            KafkaPublisher(settings.require_kafka())
    for password in (WRONG, None):
        settings = Settings(
            kafka="h:1",
            kafka_security_protocol="SSL",
            kafka_certificate_file=certificates.client,
            kafka_key_file=certificates.client_key,
            kafka_key_password=password,
        )
        with pytest.raises(SettingsError, match="STREAMREC_KAFKA_CERTIFICATE_FILE") as error:
            KafkaPublisher(settings.require_kafka())
        assert WRONG not in str(error.value)


def test_nothing_that_is_printed_holds_a_secret(kafka_settings, with_certificate):
    settings = kafka_settings("SASL_SSL", **with_certificate)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.require_kafka())):
        assert PASSWORD not in shown
        assert KEY_PASSWORD not in shown


def test_help_shows_no_secret(kafka_settings, monkeypatch, capsys):
    for variable, value in kafka_settings("SASL_SSL").environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        main(["topics", "--help"])
    assert PASSWORD not in capsys.readouterr().out


def test_a_local_broker_is_not_taken_for_one_with_a_login(tmp_path):
    settings = Settings(data_dir=tmp_path, kafka_security_protocol="SASL_SSL", kafka_username=USER, kafka_password="x")
    with pytest.raises(UsageError, match="STREAMREC_KAFKA_SECURITY_PROTOCOL"), local_stack(settings, progress=False):
        pass


@contextmanager
def worker(settings, log):
    """Run `interests` with all that it says in a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrec", "worker", "interests"],
            env=os.environ | settings.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield process
    process.kill()
    process.wait()


def test_a_worker_on_secured_servers(kafka_settings, rediss_url, tmp_path):
    right = kafka_settings("SASL_SSL", redis_url=rediss_url, data_dir=tmp_path, log_level="DEBUG")
    wrong = kafka_settings("SASL_SSL", redis_url=rediss_url, data_dir=tmp_path, kafka_password=WRONG)
    create_topics(right.require_kafka(), 2, 1)
    click = {"user_id": "u1", "item_id": "i1", "event_time_ms": time.time_ns() // 1_000_000}
    KafkaPublisher(right.require_kafka()).publish([Outgoing("clicks", b"u1", json.dumps(click).encode())])
    store = RedisInterestStore(rediss_url, state_ttl_days=1)
    works, waits = tmp_path / "works.log", tmp_path / "waits.log"
    with worker(right, works), worker(wrong, waits) as refused:
        wait(lambda: store.load(["u1"], []).states["u1"].sequence, "the state", log=works.read_text)
        wait(lambda: "Authentication failed" in waits.read_text(), "the refusal", log=waits.read_text)
        assert refused.poll() is None

    said = works.read_text() + waits.read_text()
    assert "assigned" in said
    assert not [secret for secret in (PASSWORD, WRONG, KEY_PASSWORD) if secret in said]
