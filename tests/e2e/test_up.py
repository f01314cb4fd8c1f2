"""`streamrec up`: stopped and started again in mid-stream it ends where a run that nobody disturbed would."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from waiting import DEADLINE_S, wait

from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.postgres import RetentionReader
from streamrec.adapters.redis import RedisInterestStore, TopKReader
from streamrec.chaos.oracle import judge, read_ledger
from streamrec.environment import variable_name
from streamrec.errors import TransientError
from streamrec.local import find_running
from streamrec.local.supervisor import WORKERS
from streamrec.running import restarts_of
from streamrec.settings import Settings

EVENTS = 6_000
DAY_MS = 86_400_000
SERVERS = ("Kafka", "Valkey", "PostgreSQL")
PIPE_BYTES = 64 * 1024


def environment(data_dir):
    own = {name: value for name, value in os.environ.items() if not name.startswith(variable_name(""))}
    return own | {variable_name("data_dir"): str(data_dir)}


@contextmanager
def up(data_dir):
    """Run `streamrec up`; answer its process and the settings that reach its servers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamrec", "up"],
        env=environment(data_dir),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        settings = wait(lambda: find_running(Settings(data_dir=data_dir)), "the servers")
        wait(lambda: set(workers(process)) == {*WORKERS, "monitor"}, "all workers")
        yield process, settings
    finally:
        process.kill()
        process.wait()


def workers(process):
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.Error:  # it has just ended
            continue
        if "worker" in command:
            found[command[-1]] = child
    return found


def assert_on_loopback(processes):
    """Nobody can reach what runs here from another machine."""
    listening = {each.laddr for process in processes for each in connections(process)}
    assert len(listening) >= len(SERVERS)
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def connections(process):
    return [each for each in process.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN]


def replay(data_dir, path, *options):
    command = [sys.executable, "-m", "streamrec", "replay", str(path), "--json", *options]
    finished = subprocess.run(command, env=environment(data_dir), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def handled(settings, group):
    return sum(part.committed or 0 for part in read_lag(settings.require_kafka()) if part.group == group)


def answers(settings):
    try:
        return bool(read_lag(settings.require_kafka()))
    except TransientError:
        return False


def wait_for_no_lag(settings):
    wait(lambda: not sum(part.lag for part in read_lag(settings.require_kafka())), "no lag")


def steps(settings):
    """Return the number of training steps behind the newest list of unknown users, 0 where no model made it."""
    _lineage, _dash, count = TopKReader(settings.require_redis_url()).read("").model_version.rpartition("-")
    return int(count) if count.isdigit() else 0


def assert_undisturbed(settings, path):
    """Compare Redis with the pure fold of the log, and PostgreSQL with what can be counted in the file."""
    store = RedisInterestStore(settings.require_redis_url(), state_ttl_days=settings.state_ttl_days)
    ledger = read_ledger(settings.require_kafka(), settings.fold_rules)
    verdict = judge(ledger, settings.require_kafka(), store)
    assert verdict.clean, verdict.notes
    rows = pq.read_table(path).to_pylist()
    assert len(ledger.applied) == len(rows)
    active = {(row["user_id"], row["timestamp"] // DAY_MS) for row in rows}
    report = RetentionReader(settings.require_postgres_url()).report()
    assert sum(day.active_users for day in report.days) == len(active)
    assert sum(day.new_users for day in report.days) == len({user for user, _day in active})


@pytest.fixture
def path(tmp_path):
    rng = random.Random(1)
    rows = [
        {
            "user_id": f"u{rng.randrange(400)}",
            "item_id": f"i{int(rng.paretovariate(1.0)) % 200}",
            "event_type": "purchase" if rng.random() < 0.1 else "view",
            "timestamp": 1_700_000_000_000 + n * 60_000,
        }
        for n in range(EVENTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    return tmp_path / "events.parquet"


def test_the_pipeline_continues_without_its_terminal_and_servers_that_die_come_back(tmp_path, path):
    """Ctrl-Z stops whoever supervises, and no log line of a worker waits for it."""
    data_dir, half = tmp_path / "data", EVENTS // 2
    with up(data_dir) as (process, settings):
        process.send_signal(signal.SIGSTOP)
        # more log lines than a pipe holds; a slow machine writes fewer of them for larger batches
        while sum(log.stat().st_size for log in (data_dir / "logs").glob("*.log")) <= PIPE_BYTES:
            replay(data_dir, path, "--limit", str(half), "--rate", "300")
            wait_for_no_lag(settings)
        process.send_signal(signal.SIGCONT)

        for name in ("java", "valkey-server", "postgres"):
            victim = next(child for child in psutil.Process(process.pid).children() if child.name() == name)
            victim.kill()
            wait(lambda victim=victim: not victim.is_running(), f"the death of {name}")
        wait(lambda: sum(restarts_of(data_dir).values()) == len(SERVERS), "all servers to be restarted")
        wait(lambda: answers(settings), "Kafka to answer again")
        replay(data_dir, path, "--skip", str(half))
        wait_for_no_lag(settings)
        assert_undisturbed(settings, path)


def test_stopped_and_started_again_in_mid_stream_nothing_is_different(tmp_path, path):
    data_dir, half = tmp_path / "data", EVENTS // 2
    with up(data_dir) as (process, settings):
        replay(data_dir, path, "--limit", str(half))
        wait(lambda: handled(settings, "streamrec-interests") > half // 4, "some progress")
        family = psutil.Process(process.pid).children(recursive=True)
        assert_on_loopback(family)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert psutil.wait_procs(family, timeout=DEADLINE_S)[1] == []

    with up(data_dir) as (process, settings):
        wait_for_no_lag(settings)
        learned = wait(lambda: steps(settings), "a list made by a model")
        replay(data_dir, path, "--skip", str(half))
        for name in WORKERS:  # each dies with work before it, and its successor goes on
            victim = workers(process)[name]
            victim.kill()
            wait(lambda name=name, victim=victim: workers(process).get(name, victim) != victim, f"another {name}")
        wait_for_no_lag(settings)
        assert_undisturbed(settings, path)
        wait(lambda: steps(settings) >= learned, "a list made by a model that learned as much")

        replay(data_dir, path)
        wait_for_no_lag(settings)
        assert len(read_ledger(settings.require_kafka(), settings.fold_rules).applied) == EVENTS
        assert_undisturbed(settings, path)

        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert psutil.wait_procs(family, timeout=DEADLINE_S)[1] == []
