"""Record how many learners each key of weekly_kpi.kpis was written to, which verify compares with what is there."""

from alembic import op
from seed_analytics.db import read_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add analytics_runs.kpi_keys."""
    op.execute(read_sql("migrations/0002_upgrade.sql"))


def downgrade() -> None:
    """Drop it."""
    op.execute(read_sql("migrations/0002_downgrade.sql"))
