"""The runner that every stage shares: lock, extract, fit, gate, publish, record.

A stage is five functions (``Stage``). ``execute`` runs them so that nothing is ever half-published: one advisory lock
per stage, one read-only snapshot for what is read, one transaction for what is written and for the note that it was.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import psycopg
import structlog
from psycopg.types.json import Jsonb

import seed_analytics
from seed_analytics import db, logs
from seed_analytics.db import Columns, Connection
from seed_analytics.errors import ExitCode, Rejected, StageError, Stopped, TooLittleData, TryLater
from seed_analytics.log_view import open_log
from seed_analytics.settings import Settings, describe, env_name, is_secret

S = TypeVar("S", bound=Settings)
Data = TypeVar("Data")
Fit = TypeVar("Fit")


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a fit.

    Attributes:
        faults: why the fit must not be published, in sentences; empty when it may.
        remarks: what a reader of the numbers should know all the same.
        otherwise: the sentence for a fit of which there is nothing to say.

    """

    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    otherwise: str = "The fit passed its gate."

    @property
    def accepted(self) -> bool:
        """True when the fit may be published."""
        return not self.faults

    def __str__(self) -> str:
        """Return the verdict in words, as ``analytics_runs.reason`` holds it."""
        said = "; ".join(sentence.removesuffix(".") for sentence in (*self.faults, *self.remarks))
        return f"{said}." if said else self.otherwise


@dataclass(frozen=True)
class Stage(Generic[S, Data, Fit]):
    """What differs from stage to stage.

    Attributes:
        name: of the command, the CronJob and ``analytics_runs.stage``.
        prefix: of its run ids.
        settings: its settings class.
        extract: reads the database and returns what is to be fitted; raises TooLittleData.
        fit: calls the R service or scikit-learn.
        gate: judges the fit.
        publish: writes the tables with ``run.merge``, inside one transaction.

    """

    name: str
    prefix: str
    settings: type[S]
    extract: Callable[[Run[S]], Data]
    fit: Callable[[Run[S], Data], Fit]
    gate: Callable[[Fit], Verdict]
    publish: Callable[[Run[S], Fit], None]


@dataclass
class Run(Generic[S]):
    """One run of a stage: its connection, settings, counters and clocks."""

    stage: str
    run_id: str
    settings: S
    conn: Connection
    as_of: datetime
    log: Any
    rows_read: int = 0
    rows_written: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    kpi_keys: dict[str, int] = field(default_factory=dict)

    def read(self, name: str, **params: Any) -> Columns:
        """Run ``sql/NAME`` with ``as_of`` and the given parameters; return its columns and count its rows."""
        return self._fetch(db.read_sql(name), params)

    def read_over(self, relations: Mapping[str, str], name: str, **params: Any) -> Columns:
        """Run ``sql/NAME`` with relations that files of ``sql/`` define: where settings choose what is read."""
        defined = ", ".join(f"{relation} AS (\n{db.read_sql(file)}\n)" for relation, file in relations.items())
        return self._fetch(f"WITH {defined}\n{db.read_sql(name)}", params)

    def _fetch(self, query: str, params: Mapping[str, Any]) -> Columns:
        columns = db.fetch_columns(self.conn, query, {"as_of": self.as_of, **params})
        self.rows_read += len(next(iter(columns.values()), []))
        return columns

    def merge(self, table: str, columns: Mapping[str, Sequence[Any]], statement: str) -> int:
        """Publish columns to a table by COPY and the one merge statement ``sql/STATEMENT``."""
        written = db.merge(self.conn, table, columns, db.read_sql(statement))
        self.rows_written += written
        return written

    def insert(self, table: str, **values: Any) -> None:
        """Publish one row to a table that is keyed by run_id, and log it as operators know the line."""
        names = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values))
        places = psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values))
        self.conn.execute(
            psycopg.sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(psycopg.sql.Identifier(table), names, places),
            [Jsonb(value) if isinstance(value, dict | list) else value for value in values.values()],
        )
        self.rows_written += 1
        self.log.info(f"Stored {table}: run_id={self.run_id}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one of the five steps and show it while it runs."""
        begun = time.perf_counter()
        with logs.progress(f"{self.stage}: {name}", log_format=self.settings.log_format):
            yield
        self.timings[name] = round(time.perf_counter() - begun, 4)


def merge_kpis(run: Run[Any], users: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
    """Add keys to ``weekly_kpi.kpis`` on each learner's newest row, never replacing the other keys.

    Args:
        run: the run that publishes.
        users: learners' ids.
        values: key -> one value a learner.

    """
    kpis = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    # Of a week that begins at as_of sharp nothing is known yet.
    week = [(run.as_of.astimezone(UTC) - timedelta.resolution).date()] * len(users)
    written = run.merge("weekly_kpi", {"user_id": users, "week_start": week, "kpis": kpis}, "run/merge_kpis.sql")
    run.kpi_keys |= dict.fromkeys(values, written)
    run.log.info(f"Updated weekly_kpi ({', '.join(values)}) for {written} users")
    if written < len(users):
        run.log.warning(f"{len(users) - written} users have no row in weekly_kpi to write to")


def execute(stage: Stage[S, Data, Fit], settings: S) -> ExitCode:
    """Run a stage once and record how it ended.

    Returns:
        ExitCode.OK, also when the stage was skipped for too little data.

    Raises:
        StageError: with the exit code that tells whether to try again; nothing was published.

    """
    begun = time.perf_counter()
    structlog.contextvars.bind_contextvars(stage=stage.name)
    url = settings.database_url.get_secret_value()
    try:
        with db.translated(), db.connect(url, application=f"seed-analytics/{stage.name}") as conn:
            run = _start(stage, settings, conn)
            try:
                said = _steps(stage, run)
            except BaseException as error:
                _record_end(run, url, error)
                raise
            finally:
                # The next run need not wait until the server has noticed that this one has gone. A connection that is
                # lost holds no lock, and must not hide how the run ended.
                if conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                    with suppress(psycopg.OperationalError):
                        conn.execute(db.read_sql("run/unlock.sql"))
            run.log.info(
                "Done" if not settings.dry_run else "Dry run done: nothing was written",
                run_id=run.run_id,
                seconds=round(time.perf_counter() - begun, 2),
                rows_read=run.rows_read,
                rows_written=run.rows_written,
                verdict=said,
            )
    except TooLittleData as skipped:
        structlog.get_logger().warning(f"Skipped: {skipped}")
    finally:
        structlog.contextvars.unbind_contextvars("stage")
    return ExitCode.OK


def _steps(stage: Stage[S, Data, Fit], run: Run[S]) -> str:
    with run.step("extract"):
        open_log(run.conn, run.as_of, run.settings.attempt_student_id_form)
        with run.conn.transaction():
            run.conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            data = stage.extract(run)
    with run.step("fit"):
        fit = stage.fit(run, data)
    with run.step("gate"):
        verdict = stage.gate(fit)
    if not verdict.accepted:
        raise Rejected(str(verdict))
    for remark in verdict.remarks:
        run.log.warning(remark)
    if not run.settings.dry_run:
        with run.conn.transaction():
            with run.step("publish"):
                stage.publish(run, fit)
            _update(run.conn, run, "succeeded", str(verdict))
    return str(verdict)


def _start(stage: Stage[S, Data, Fit], settings: S, conn: Connection) -> Run[S]:
    log = structlog.get_logger()
    present = db.present(conn)
    now = present.replace(microsecond=0)
    run = Run(stage.name, _run_id(stage.prefix, now), settings, conn, settings.as_of or present, log)
    run.versions = {"seed_analytics": seed_analytics.__version__, "python": platform.python_version()}
    if settings.dry_run:
        return run
    if not conn.execute(db.read_sql("run/lock.sql"), {"stage": stage.name}).fetchone() == (True,):
        raise TryLater(f"Another run of {stage.name} holds the lock; this one leaves it alone.")
    # Whoever was killed without a word left its row at `running`; we hold the lock, so nobody else is running now.
    abandoned = conn.execute(db.read_sql("run/close_abandoned.sql"), {"stage": stage.name}).rowcount
    if abandoned:
        log.warning(f"Closed {abandoned} earlier run(s) of {stage.name} that ended without a word")
    shown = {
        item.name: logs.redact(str(getattr(settings, name)))  # an address may hold a password
        for item, (name, info) in zip(describe(type(settings)), type(settings).model_fields.items(), strict=True)
        if not is_secret(info) and env_name(name) == item.name
    }
    while True:
        row = {"run_id": run.run_id, "stage": stage.name, "as_of": run.as_of, "settings": Jsonb(shown)}
        if conn.execute(db.read_sql("run/start.sql"), row).rowcount:
            return run
        now += timedelta(seconds=1)  # two runs within one second
        run.run_id = _run_id(stage.prefix, now)


def _run_id(prefix: str, now: datetime) -> str:
    return f"{prefix}-{now:%Y%m%d-%H%M%S}"


def _record_end(run: Run[S], url: str, error: BaseException) -> None:
    if run.settings.dry_run:
        return
    status = "failed"
    if isinstance(error, Rejected):
        status = "rejected"
    elif isinstance(error, TooLittleData):
        status = "skipped"
    reason = str(error) if isinstance(error, StageError | Stopped) else f"{type(error).__name__}: {error}"
    try:
        # The run's own connection may be what broke.
        with db.connect(url, application=f"seed-analytics/{run.stage}/record", attempts=1) as conn:
            _update(conn, run, status, logs.redact(reason))
    except (StageError, psycopg.Error) as unwritten:
        run.log.error(f"Could not record how the run ended: {logs.redact(str(unwritten))}", run_id=run.run_id)


def _update(conn: Connection, run: Run[S], status: str, reason: str) -> None:
    conn.execute(
        db.read_sql("run/finish.sql"),
        {
            "run_id": run.run_id,
            "status": status,
            "reason": reason,
            "rows_read": run.rows_read,
            "rows_written": run.rows_written,
            "timings": Jsonb(run.timings),
            "versions": Jsonb(run.versions),
            "kpi_keys": Jsonb(run.kpi_keys if status == "succeeded" else {}),
        },
    )
