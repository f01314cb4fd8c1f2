"""Identity of a PostgreSQL schema."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from streamrec.adapters.postgres.engine import connect, translated_errors
from streamrec.adapters.postgres.tables import identity as identities


class PostgresIdentity:
    """Stores the identity of an installation's schema.

    Parameters
    ----------
    url
        Address of PostgreSQL.
    installation
        Name of the installation.
    """

    name = "PostgreSQL"

    def __init__(self, url: str, *, installation: str = "") -> None:
        self._engine = connect(url, installation=installation)

    def identity(self) -> str:
        """Return the identity, empty if there is none."""
        with translated_errors(), self._engine.connect() as connection:
            return connection.execute(select(identities.c.identity)).scalar() or ""

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the current one."""
        with translated_errors(), self._engine.begin() as connection:
            connection.execute(insert(identities).values(one=1, identity=identity).on_conflict_do_nothing())
            return str(connection.execute(select(identities.c.identity)).scalar_one())
