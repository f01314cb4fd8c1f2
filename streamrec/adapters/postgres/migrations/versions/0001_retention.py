"""The first tables of retention."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_COUNTS = ("lists", "impressions", "clicks", "purchases", "followed_clicks", "followed_purchases")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "position",
        sa.Column("topic", sa.String, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger),
        comment="Which records are contained here: the next offset of each source partition.",
    )
    op.create_table(
        "retention_user",
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("arm", sa.String, nullable=False),
        sa.Column("first_day", sa.Date),
        sa.Column("last_day", sa.Date),
        sa.Column("memory", sa.LargeBinary, comment="Recent event ids and newest lists, msgpack."),
        comment="One row a user; the days are empty for a user who was shown lists and did nothing.",
    )
    op.create_index("retention_user_first_day", "retention_user", ["first_day"])
    op.create_table(
        "activity",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("user_id", sa.String, primary_key=True),
        *_count_columns("clicks", "purchases"),
        comment="One row for each user and UTC day of activity, by event time.",
    )
    op.create_table(
        "daily_count",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("arm", sa.String, primary_key=True),
        *_count_columns(*_COUNTS),
        comment="What happened on a day in an arm.",
    )
    op.create_table(
        "followed_list",
        sa.Column("list_id", sa.String, primary_key=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("arm", sa.String, nullable=False),
        sa.Column("first_followed_at_ms", sa.BigInteger, nullable=False),
        *_count_columns("clicks", "purchases"),
        comment="Lists that led to something; there is no row for the others.",
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("followed_list", "daily_count", "activity", "retention_user", "position"):
        op.drop_table(table)


def _count_columns(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in names]
