"""compute-weekly-kpis: what is known of each learner as of each week, in set-based SQL (docs/kpis.md defines it)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import TooLittleData
from seed_analytics.run import Run, Stage, Verdict
from seed_analytics.settings import KPI_KEYS, KpiSettings
from seed_analytics.stages import require_joined_ids


@dataclass(frozen=True)
class Week:
    """An ISO week and the moment up to which its KPIs look back."""

    start: date
    """Monday, UTC."""
    moment: datetime
    """The end of its Sunday, or the moment of the run where the week is unfinished."""


def weeks_to_compute(as_of: datetime, lookback_weeks: int) -> list[Week]:
    """Return the last complete weeks before `as_of` and the unfinished one, oldest first."""
    as_of = as_of.astimezone(UTC)
    monday = datetime.combine(as_of.date() - timedelta(days=as_of.weekday()), time(), UTC)
    starts = [monday - timedelta(weeks=back) for back in range(lookback_weeks, -1, -1)]
    # On Monday at midnight sharp the new week has not begun.
    return [Week(start.date(), min(start + timedelta(weeks=1), as_of)) for start in starts if start < as_of]


def extract(run: Run[KpiSettings]) -> list[Week]:
    """Look whether there is a log; the KPIs themselves are computed where the log is."""
    require_joined_ids(run, fills_kpis=True)
    span = run.read("compute_weekly_kpis/log_span.sql")
    run.rows_read = span["rows"][0]
    if not run.rows_read:
        raise TooLittleData(f"The log has no row in the 56 days before {run.as_of:%Y-%m-%d %H:%M} UTC.")
    run.log.info(f"Loaded {run.rows_read} rows of {span['users'][0]} users")
    weeks = weeks_to_compute(run.as_of, run.settings.kpi_lookback_weeks)
    end = datetime.combine(weeks[-1].start + timedelta(weeks=1), time(), UTC)
    if weeks[-1].moment < end <= db.present(run.conn):
        run.log.info(f"Left out the week of {weeks[-1].start}: it is over by now, and half of it is not its KPIs")
        weeks.pop()
    return weeks


def fit(run: Run[KpiSettings], weeks: list[Week]) -> list[Week]:
    """Nothing is estimated."""
    return weeks


def gate(weeks: list[Week]) -> Verdict:
    """Accept: the definitions bound every KPI."""
    return Verdict(otherwise="Nothing is estimated: the definitions bound every KPI.")


def merge_week(conn: Connection, week: Week) -> int:
    """Compute the KPIs of one week from ``attempt_log`` and merge them into ``weekly_kpi``; return the rows written."""
    windows = {f"since_{days}": week.moment - timedelta(days=days) for days in (14, 28, 56)}
    moments = {"t": week.moment, "week": datetime.combine(week.start, time(), UTC), "week_start": week.start}
    statement = db.read_sql("compute_weekly_kpis/merge_week.sql")
    return conn.execute(statement, windows | moments | {"keys": list(KPI_KEYS)}).rowcount


def publish(run: Run[KpiSettings], weeks: list[Week]) -> None:
    """Compute and merge one week after the other."""
    for week in weeks:
        written = merge_week(run.conn, week)
        run.rows_written += written
        run.log.info(f"Updated weekly_kpi for {written} users: week of {week.start}")


STAGE = Stage("compute-weekly-kpis", "kpi", KpiSettings, extract, fit, gate, publish)
