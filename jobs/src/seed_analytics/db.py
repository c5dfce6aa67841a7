"""PostgreSQL: connect, read in columns, publish by COPY and one merge per table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, LiteralString

import psycopg
import stamina
from psycopg import sql as pgsql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb, set_json_dumps

from seed_analytics.errors import ConfigFault, InputFault, TryLater, Unavailable
from seed_analytics.logs import redact
from seed_analytics.numbers import dumps

Connection = psycopg.Connection[tuple[Any, ...]]
Columns = dict[str, list[Any]]

# NaN is no JSON: a statistic that does not exist is null, and anything else that is not finite is a defect.
set_json_dumps(dumps)

CONNECT_ATTEMPTS = 4
CONNECT_TIMEOUT_SECS = 10
CHUNK_ROWS = 10_000
LOCK_TIMEOUT_SECS = 60  # publishing waits so long for a table that something else holds
CLIENT_CHECK_SECS = 5  # a server at work looks so often whether its client still lives, and drops its locks if not


@cache
def read_sql(name: str) -> LiteralString:
    """Return the text of ``sql/NAME`` of this package, for example ``fit_survival_churn/visits.sql``."""
    return files("seed_analytics").joinpath("sql", name).read_text(encoding="utf-8")


# libpq gives no SQLSTATE for a connection that it does not get, only words.
_MISCONFIGURED = re.compile(
    r"authentication failed|no password supplied|empty password returned|does not exist|not permitted to log in"
    r"|permission denied for database|pg_hba\.conf|server does not support SSL|certificate verify failed"
    r"|invalid connection option|invalid URI|invalid port|invalid (\w+) value"
    r"|unrecognized configuration parameter|invalid value for parameter|unsupported startup parameter"
)
_UNREADABLE = (
    "DATABASE_URL cannot be read. It is postgresql://user:password@host:port/database; "
    "in user and password, write % as %25, @ as %40 and / as %2F."
)


class _Unreachable(Exception):
    pass


def connect(url: str, *, application: str = "seed-analytics", attempts: int = CONNECT_ATTEMPTS) -> Connection:
    """Open a connection in autocommit mode with the session's time zone set to UTC.

    Raises:
        ConfigFault: the URL, user, password or database is wrong; trying again cannot help.
        Unavailable: the server does not answer after `attempts` tries.

    """
    own = _parsed(url)
    # Later ones win: our lock_timeout is a default, UTC is not to be changed.
    options = (
        f"-c lock_timeout={LOCK_TIMEOUT_SECS}s -c client_connection_check_interval={CLIENT_CHECK_SECS}s "
        f"{own.pop('options', os.environ.get('PGOPTIONS', ''))} -c timezone=UTC"
    )
    own |= {"application_name": application, "options": options}

    @stamina.retry(on=_Unreachable, attempts=attempts, wait_initial=0.5, wait_max=5.0)
    def attempt() -> Connection:
        try:
            return psycopg.connect(autocommit=True, **{"connect_timeout": CONNECT_TIMEOUT_SECS, **own})
        except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
            said = redact(str(error)).strip()
            if _MISCONFIGURED.search(said):
                raise ConfigFault(f"DATABASE_URL: {said}") from None
            raise _Unreachable(said) from None

    try:
        return attempt()
    except _Unreachable as error:
        raise Unavailable(f"PostgreSQL does not answer at the address in DATABASE_URL: {error}") from None


def _parsed(url: str) -> dict[str, Any]:
    try:
        own = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeDecodeError) as error:
        # libpq quotes what it could not read, which may be a piece of the password: also after a ?, where an @ follows.
        quotable = "URI query parameter" in str(error) and "@" not in url.partition("?")[2]
        said = f"DATABASE_URL: {error}" if quotable else _UNREADABLE
        raise ConfigFault(said) from None
    # A password with a bare @ or / shifts what follows: its rest would be shown as the host, its beginning as the port.
    hosts, ports = str(own.get("host", "")), str(own.get("port", ""))
    if ("@" in hosts and not hosts.startswith("@")) or not all(port.isdigit() for port in ports.split(",") if port):
        raise ConfigFault(_UNREADABLE)
    return own


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of PostgreSQL into the sentence and exit code that they mean for a run.

    Raises:
        InputFault: a table, column or key is missing or of another type, or a value of the platform's cannot be read.
        TryLater: another session holds a lock.
        Unavailable: the connection broke or the server is out of resources.
        ConfigFault: the user may not do this.

    """
    try:
        yield
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.UndefinedFunction,
    ) as error:
        raise InputFault(
            f"{_primary(error)}. If the table is the platform's, check DATABASE_URL and its search_path; "
            "if it is ours, run `seed-analytics migrate`."
        ) from error
    except (
        psycopg.errors.DatatypeMismatch,
        psycopg.errors.CannotCoerce,
        psycopg.errors.InvalidColumnReference,  # an ON CONFLICT without its unique key
    ) as error:
        raise InputFault(
            f"A table is not as agreed: {_primary(error)}. `seed-analytics check-inputs` compares the platform's "
            "tables with the contract; if the table is ours, run `seed-analytics migrate`."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigFault(f"The user in DATABASE_URL lacks a right: {_primary(error)}.") from error
    except psycopg.errors.AdminShutdown as error:
        raise Unavailable(f"PostgreSQL ended the connection: {_primary(error)}.") from error
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.SerializationFailure,
    ) as error:
        raise TryLater(f"Another session holds what this run needs: {_primary(error)}.") from error
    except psycopg.DataError as error:
        raise InputFault(f"A value in the platform's tables cannot be read: {_primary(error)}.") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"PostgreSQL failed: {_primary(error)}.") from error


def _primary(error: psycopg.Error) -> str:
    return redact(error.diag.message_primary or str(error).strip().splitlines()[0])


def fetch_columns(conn: Connection, query: LiteralString, params: Mapping[str, Any] | None = None) -> Columns:
    """Run a query and return its result as columns: name -> list of values, all of one length."""
    with conn.cursor() as cursor:
        # In chunks: a result that is held whole would double the memory of a large log.
        rows = cursor.stream(query, params, size=CHUNK_ROWS)
        first = next(rows, None)
        if first is None:
            cursor.execute(query, params)  # a stream that ends at once does not name its columns
        columns: Columns = {column.name: [] for column in cursor.description or ()}
        appends = [values.append for values in columns.values()]
        for row in chain([first] if first else [], rows):
            for append, value in zip(appends, row, strict=True):
                append(value)
    return columns


def fetch_one(conn: Connection, query: LiteralString, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run a query and return its only row by column name."""
    columns = fetch_columns(conn, query, params)
    return {name: values[0] for name, values in columns.items()}


def present(conn: Connection) -> datetime:
    """Return the server's clock, the only one that counts: it writes every ``fitted_at``, and a pod's may be off."""
    moment: datetime = fetch_one(conn, "SELECT clock_timestamp() AS moment")["moment"]
    return moment


def rows_of(columns: Mapping[str, Sequence[Any]]) -> Iterable[tuple[Any, ...]]:
    """Iterate over columns row by row, with dicts and lists wrapped for jsonb."""
    wrapped = [
        [Jsonb(value) if isinstance(value, dict | list) else value for value in column] for column in columns.values()
    ]
    return zip(*wrapped, strict=True)


def merge(conn: Connection, table: str, columns: Mapping[str, Sequence[Any]], statement: LiteralString) -> int:
    """Copy the columns into a temporary table ``incoming`` and run one merge statement on it.

    Args:
        conn: a connection inside a transaction; ``incoming`` goes with its end.
        table: the table whose column types ``incoming`` takes.
        columns: name -> values; names are columns of `table`.
        statement: one statement that reads ``incoming`` and writes `table`.

    Returns:
        The number of rows written.

    """
    names = pgsql.SQL(", ").join(map(pgsql.Identifier, columns))
    with conn.cursor() as cursor:
        cursor.execute(
            pgsql.SQL("CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                names, pgsql.Identifier(table)
            )
        )
        with cursor.copy(pgsql.SQL("COPY incoming ({}) FROM STDIN").format(names)) as copy:
            for row in rows_of(columns):
                copy.write_row(row)
        cursor.execute(statement)
        written = cursor.rowcount
        cursor.execute("DROP TABLE incoming")
    return written
