"""The tables of retention."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Date, Index, Integer, LargeBinary, MetaData, String, Table

REVISION = "0004"
"""Of the migration that makes these tables."""

metadata = MetaData()


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


positions = Table(
    "position",
    metadata,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger),
    comment="Which records are contained here: the next offset of each source partition.",
)

identity = Table(
    "identity",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True),
    Column("identity", String, nullable=False),
    comment="Random name of this store, which the broker knows, too; one row at most.",
)

calendar = Table(
    "calendar",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True),
    Column("time_zone", String, nullable=False),
    comment="Time zone of every day that is stored here; one row at most, none before the first day.",
)

topic_ids = Table(
    "source_topic",
    metadata,
    Column("topic", String, primary_key=True),
    Column("topic_id", String, nullable=False),
    comment="Which topics the positions are of: one that was deleted and made anew has the same name.",
)

users = Table(
    "retention_user",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("arm", String, nullable=False),
    Column("first_day", Date),
    Column("last_day", Date),
    Column("memory", LargeBinary, comment="Recent event ids and newest lists, msgpack."),
    comment="One row a user; the days are empty for a user who was shown lists and did nothing.",
)
Index("retention_user_first_day", users.c.first_day)

activity = Table(
    "activity",
    metadata,
    Column("day", Date, primary_key=True),
    Column("user_id", String, primary_key=True),
    _count("clicks"),
    _count("purchases"),
    comment="One row for each user and day of activity, by event time.",
)

counts = Table(
    "daily_count",
    metadata,
    Column("day", Date, primary_key=True),
    Column("arm", String, primary_key=True),
    _count("lists"),
    _count("impressions"),
    _count("clicks"),
    _count("purchases"),
    _count("followed_clicks"),
    _count("followed_purchases"),
    comment="What happened on a day in an arm.",
)

followed = Table(
    "followed_list",
    metadata,
    Column("list_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("first_followed_at_ms", BigInteger, nullable=False),
    _count("clicks"),
    _count("purchases"),
    comment="Lists that led to something; there is no row for the others.",
)
