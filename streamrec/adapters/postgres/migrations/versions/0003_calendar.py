"""The time zone of the days that are stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table; days that are there already are those of UTC."""
    op.create_table(
        "calendar",
        sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True),
        sa.Column("time_zone", sa.String, nullable=False),
        comment="Time zone of every day that is stored here; one row at most, none before the first day.",
    )
    op.execute("INSERT INTO calendar SELECT 1, 'UTC' WHERE EXISTS (SELECT FROM retention_user)")
    op.create_table_comment("activity", "One row for each user and day of activity, by event time.")
