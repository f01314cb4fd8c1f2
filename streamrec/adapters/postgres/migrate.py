"""The tables brought up to date; apart, because Alembic takes memory that no worker needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.schema import CreateSchema

from streamrec.adapters.postgres.engine import connect, translated_errors
from streamrec.errors import StreamrecError

_MIGRATION_LOCK = 7_221_061
"""Any number, the same in every process: two migrations at once would trip over each other."""


def migrate(url: str, *, installation: str = "") -> None:
    """Bring the tables of an installation up to date, in the schema of its name; does nothing when they are.

    Raises
    ------
    StreamrecError
        If the tables are of a newer release.
    TransientError
        If the server does not answer.
    """
    engine = connect(url, installation=installation)
    config = Config()
    # a percent sign would begin an interpolation
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    try:
        with translated_errors(), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            if installation:
                connection.execute(CreateSchema(installation, if_not_exists=True))
            config.attributes["connection"] = connection
            _upgrade(config)
    finally:
        engine.dispose()


def _upgrade(config: Config) -> None:
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        # Alembic finds the revision of the tables among its files, or it does not
        raise StreamrecError(
            f"PostgreSQL has tables of a newer release of streamrec, which this one leaves alone: {error}"
        ) from error
