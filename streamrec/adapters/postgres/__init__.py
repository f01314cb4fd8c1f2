"""PostgreSQL: retention, and the tables it needs."""

from streamrec.adapters.postgres.engine import migrate
from streamrec.adapters.postgres.report import RetentionReader, RetentionReport
from streamrec.adapters.postgres.store import PostgresRetentionStore

__all__ = ["PostgresRetentionStore", "RetentionReader", "RetentionReport", "migrate"]
