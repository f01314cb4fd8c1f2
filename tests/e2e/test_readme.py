"""The README's snippets, as printed, against a pipeline; only the ports differ."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from pipeline import own_servers
from waiting import DEADLINE_S

from streamrec.chaos.oracle import read_all
from streamrec.contracts.derived import TopKList
from streamrec.local import USUAL_PORTS
from streamrec.local.kafka_jars import fetch_jars

README = Path(__file__).parents[2].joinpath("README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NODE_CLIENTS = ("kafkajs@2.2.4", "redis@6.3.1")


def snippet(language, containing):
    """Return the only snippet of a language that contains something."""
    (found,) = [code for of_language, code in BLOCKS if of_language == language and containing in code]
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Run a pipeline in which u42 has a list."""
    with own_servers(tmp_path_factory.mktemp("readme")) as pipeline:
        pipeline.start("interests", "trainer", "recall")
        pipeline.produce("clicks", [{"user_id": "u42", "item_id": "i1", "event_time_ms": time.time_ns() // 1_000_000}])
        pipeline.wait(lambda: own_list(pipeline), "a list of u42")
        yield pipeline


def own_list(pipeline):
    topk = pipeline.reader.read("u42")
    return topk is not None and topk.user_id == "u42" and topk


@pytest.fixture
def here(running):
    """Return what puts the addresses of that pipeline into a snippet."""

    def fill(code):
        for field, address in running.settings.addresses().items():
            code = code.replace(f"127.0.0.1:{USUAL_PORTS[field]}", re.search(r"127\.0\.0\.1:\d+", address)[0])
        return code

    return fill


@pytest.fixture
def produces(running):
    """Return a check that something produces one click of u42, where its other clicks are, and that it is applied."""

    def clicks():
        records = read_all(running.settings.require_kafka(), ["clicks"])
        return [(source, record) for source, record in records if record.key == b"u42"]

    def check(produce):
        before = clicks()
        produce()
        after = clicks()
        assert len(after) == len(before) + 1
        assert len({source for source, _ in after}) == 1, "the client chooses another partition"
        assert msgspec.json.decode(after[-1][1].value)["item_id"] == "i7"
        running.wait_until_folded()
        assert not running.ledger().refused

    return check


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Return a directory with the JavaScript clients."""
    needs("node", "npm")
    directory = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", directory, *NODE_CLIENTS]
    installed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    if installed.returncode:
        pytest.skip(f"npm cannot install {' '.join(NODE_CLIENTS)}: {' '.join(installed.stderr.split())[:300]}")
    return directory


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*command, cwd):
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_python_produces(here, produces, running, tmp_path):
    code = here(snippet("python", '"clicks"') + snippet("python", '"items"'))
    produces(lambda: run(sys.executable, "-c", code, cwd=tmp_path))
    (item,) = [record for _, record in read_all(running.settings.require_kafka(), ["items"])]
    assert item.key == b"i7"


def test_kcat_produces(here, produces, tmp_path):
    needs("kcat")
    produces(lambda: run("sh", "-c", here(snippet("sh", "kcat -P")), cwd=tmp_path))


def test_kafkajs_produces(here, produces, node):
    (node / "produce.mjs").write_text(here(snippet("js", "kafkajs")))
    produces(lambda: run("node", "produce.mjs", cwd=node))


def test_java_produces(here, produces, tmp_path):
    needs("java")
    if "jdk.compiler" not in run("java", "--list-modules", cwd=tmp_path):
        pytest.skip("java is not a JDK")
    (tmp_path / "Produce.java").write_text(here(snippet("java", "KafkaProducer")))
    produces(lambda: run("java", "-cp", fetch_jars(progress=False), "Produce.java", cwd=tmp_path))


def reads_the_list(running, read):
    """Wait until what a client reads is the list: another one may replace it in between."""
    running.wait(lambda: read() == own_list(running).items.ids, "the list")


def test_python_reads_a_list(here, running, tmp_path):
    code = here(snippet("python", "TopKReader"))
    reads_the_list(
        running, lambda: [line.split()[0] for line in run(sys.executable, "-c", code, cwd=tmp_path).splitlines()]
    )


def test_redis_cli_reads_a_list(here, running, tmp_path):
    needs("redis-cli")
    command, _kcat = snippet("sh", "redis-cli").splitlines()
    port = here("127.0.0.1:6379").rpartition(":")[2]

    def read():
        printed = run("sh", "-c", command.replace("redis-cli", f"redis-cli -p {port}"), cwd=tmp_path)
        return msgspec.json.decode(printed, type=TopKList).items.ids

    reads_the_list(running, read)


def test_node_redis_reads_a_list(here, running, node):
    (node / "read.mjs").write_text(here(snippet("js", "rec-default")))
    reads_the_list(running, lambda: re.findall(r"'(.+?)'", run("node", "read.mjs", cwd=node)))


@pytest.mark.usefixtures("running")
def test_kcat_reads_lists(here):
    needs("kcat")
    _redis_cli, command = snippet("sh", "redis-cli").splitlines()
    # from the beginning and up to the end: how else would it end
    printed = run(*here(command).replace("-o end", "-o beginning -e").split(), cwd=None)
    lists = [msgspec.json.decode(line, type=TopKList) for line in printed.splitlines()]
    assert "u42" in {topk.user_id for topk in lists}
