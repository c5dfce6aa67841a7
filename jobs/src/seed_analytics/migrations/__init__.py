"""Alembic migrations of the tables that the stages publish to. Nothing else creates tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from seed_analytics.errors import UsageFault

if TYPE_CHECKING:
    from seed_analytics.db import Connection

VERSION_TABLE = "seed_analytics_version"  # the platform may keep its own alembic_version in the same schema


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", "seed_analytics:migrations")
    config.attributes["url"] = url
    return config


def migrate(url: str, revision: str = "head") -> None:
    """Bring the output tables to a revision, forwards or backwards, in one transaction.

    Args:
        url: PostgreSQL connection string.
        revision: an Alembic revision, ``head`` or ``base`` (``base`` drops the tables and all that they hold).

    Raises:
        UsageFault: there is no such revision.
        psycopg.Error: PostgreSQL refuses; ``db.translated`` says what that means.

    """
    config = _config(url)
    move = command.downgrade if revision == "base" or revision.startswith("-") else command.upgrade
    try:
        move(config, revision)
    except CommandError as error:
        raise UsageFault(f"--revision {revision}: {error}") from error
    except DBAPIError as error:
        raise (error.orig or error) from error


def current(conn: Connection) -> str | None:
    """Return the revision that the output tables are at, or None where there are none."""
    if conn.execute("SELECT to_regclass(%s)", [VERSION_TABLE]).fetchone() == (None,):
        return None
    row = conn.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608
    return str(row[0]) if row else None
