"""Schema migration; a separate module, because Alembic takes memory that workers do not need."""

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
"""Advisory lock id, the same in every process: concurrent migrations would conflict."""


def migrate(url: str, *, installation: str = "") -> None:
    """Migrate the tables of an installation, in the schema of its name; does nothing if they are up to date.

    Raises
    ------
    StreamrecError
        If the tables belong to a newer release.
    TransientError
        If the server does not answer.
    """
    engine = connect(url, installation=installation)
    config = Config()
    # a percent sign would start an interpolation
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
        # Alembic fails if it does not know the revision of the tables
        raise StreamrecError(
            f"PostgreSQL has tables of a newer release of streamrec, which this one does not change: {error}"
        ) from error
