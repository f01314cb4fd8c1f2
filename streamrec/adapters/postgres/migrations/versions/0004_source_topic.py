"""Which topics the positions are of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "source_topic",
        sa.Column("topic", sa.String, primary_key=True),
        sa.Column("topic_id", sa.String, nullable=False),
        comment="Which topics the positions are of: one that was deleted and made anew has the same name.",
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("source_topic")
