"""What `up` says of its addresses."""

from __future__ import annotations

import socket
from types import SimpleNamespace

from streamrec.cli import up
from streamrec.local.server import choose_port
from streamrec.settings import Settings


def test_up_says_which_usual_ports_it_does_not_use(tmp_path, monkeypatch):
    taken, free = choose_port(tmp_path, "taken"), choose_port(tmp_path, "free")
    monkeypatch.setattr(up, "USUAL_PORTS", {"kafka": taken, "redis_url": free, "postgres_url": 5432})
    servers = {
        "kafka": SimpleNamespace(name="kafka", port=1),
        "redis_url": SimpleNamespace(name="valkey", port=2),
        "postgres_url": SimpleNamespace(name="postgresql", port=5432),
    }
    settings = Settings(data_dir=tmp_path)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", taken))
        busy.listen()
        said = up._other_ports(SimpleNamespace(servers=servers, settings=settings), settings)

    assert said == [
        f"kafka listens on port 1: {taken} is taken",
        f"valkey listens on port 2: {free} is free, but this data directory keeps the ports of its first start",
    ]
