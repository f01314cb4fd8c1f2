"""Where workers say that their metrics are: in a directory that may hold garbage, be read-only, or be none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from streamrec.errors import StreamrecError
from streamrec.metrics import Endpoint, announced, exported, find_endpoints
from streamrec.settings import Settings

HERE = Endpoint("recall", "127.0.0.1", 4711)


def test_what_is_announced_is_found_while_it_is(tmp_path):
    settings = Settings(data_dir=tmp_path)
    with announced(settings, HERE):
        assert find_endpoints(settings) == [HERE]
    assert find_endpoints(settings) == []


def test_one_of_a_process_that_died_is_cleared_away(tmp_path):
    settings = Settings(data_dir=tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file = tmp_path / settings.installation / "metrics" / f"recall-{ended.pid}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(HERE._asdict()))

    assert find_endpoints(settings) == []
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recall-PID.json", b""),
        ("recall-PID.json", b"\xff\xfe"),
        ("recall-PID.json", b"[]"),
        ("recall-PID.json", b'{"worker": "recall"}'),
        ("recall-PID.json", b'{"worker": "recall", "host": 7, "port": "x"}'),
        ("recall-PID.json", b'{"worker": "recall", "host": "127.0.0.1", "port": 70000}'),
        ("recall-copy.json", b"{}"),
        ("recall-99999999999999999999.json", b"{}"),
        ("-.json", b"{}"),
    ],
)
def test_garbage_among_them_is_none(tmp_path, name, content):
    settings = Settings(data_dir=tmp_path)
    with announced(settings, HERE._replace(worker="interests")):
        (tmp_path / settings.installation / "metrics" / name.replace("PID", str(os.getpid()))).write_bytes(content)
        assert [endpoint.worker for endpoint in find_endpoints(settings)] == ["interests"]


def test_a_directory_that_cannot_be_written_ends_no_worker(tmp_path):
    (tmp_path / "file").touch()
    with capture_logs() as lines, announced(Settings(data_dir=tmp_path / "file"), HERE):
        pass
    assert [line["event"] for line in lines] == ["metrics are not announced"]


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(data_dir=tmp_path, metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(StreamrecError, match=r"cannot be served on .* STREAMREC_METRICS_PORT"),
            exported(settings, "recall"),
        ):
            pass
