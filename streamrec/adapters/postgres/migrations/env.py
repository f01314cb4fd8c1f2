"""Alembic environment: runs on the connection of `migrate`, inside its transaction."""

from __future__ import annotations

from alembic import context

from streamrec.adapters.postgres.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
