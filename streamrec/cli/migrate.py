"""`streamrec migrate`: migrates the PostgreSQL schema."""

from __future__ import annotations

from streamrec.adapters.postgres.migrate import migrate
from streamrec.cli.addresses import resolved_settings
from streamrec.cli.output import console


def migrate_command() -> None:
    """Migrate the PostgreSQL schema to this release; does nothing if it is up to date.

    Example: STREAMREC_POSTGRES_URL=postgresql://streamrec:secret@localhost/streamrec streamrec migrate
    """
    settings = resolved_settings()
    migrate(settings.require_postgres_url(), installation=settings.installation)
    console().print("the tables are up to date")
