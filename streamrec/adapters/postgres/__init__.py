"""PostgreSQL: retention."""

from streamrec.adapters.postgres.report import RetentionReader, RetentionReport
from streamrec.adapters.postgres.store import PostgresRetentionStore

__all__ = ["PostgresRetentionStore", "RetentionReader", "RetentionReport"]
