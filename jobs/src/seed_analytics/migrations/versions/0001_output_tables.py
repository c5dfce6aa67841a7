"""Create the tables that the stages publish to."""

from alembic import op
from seed_analytics.db import read_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every output table."""
    op.execute(read_sql("migrations/0001_upgrade.sql"))


def downgrade() -> None:
    """Drop every output table and what it holds."""
    op.execute(read_sql("migrations/0001_downgrade.sql"))
