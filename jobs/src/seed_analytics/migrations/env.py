"""How Alembic reaches the database: the URL comes from the caller, never from a file."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from seed_analytics import db
from seed_analytics.migrations import VERSION_TABLE


def connect() -> db.Connection:
    """Connect as the stages do, but in transactions, which SQLAlchemy ends itself."""
    conn = db.connect(context.config.attributes["url"], application="seed-analytics/migrate")
    conn.autocommit = False
    return conn


# The URL goes to libpq as it is: SQLAlchemy would read query parameters and sockets in its own way.
engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
    with context.begin_transaction():
        # Two releases that start together must not create the same table at once.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('seed-analytics/migrate', 0))"))
        context.run_migrations()
engine.dispose()
