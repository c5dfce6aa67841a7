"""compute-weekly-kpis against a slow, obvious implementation of docs/kpis.md."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import mean, median
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from seed_analytics.log_view import open_log
from seed_analytics.settings import KPI_KEYS
from seed_analytics.simulate import simulate
from seed_analytics.stages.compute_weekly_kpis import Week, merge_week, weeks_to_compute
from support import Database, invoke

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Row:
    student_id: str
    item_id: str
    correct: bool | None
    response_time_ms: int | None
    hint_used: bool | None
    started_at: datetime
    completed_at: datetime | None
    session_id: str | None

    @property
    def session(self) -> str:
        return self.session_id or self.started_at.astimezone(UTC).date().isoformat()

    @property
    def seconds(self) -> float | None:
        if self.completed_at and self.completed_at >= self.started_at:
            return (self.completed_at - self.started_at).total_seconds()
        return self.milliseconds / 1000 if self.milliseconds is not None else None

    @property
    def milliseconds(self) -> int | None:
        return self.response_time_ms if self.response_time_ms is not None and self.response_time_ms >= 0 else None


def write(database: Database, rows: list[Row]) -> None:
    with database.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO attempt (student_id, item_id, correct, response_time_ms, hint_used, started_at, completed_at,"
            " session_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [astuple(row) for row in rows],
        )


def kpis(database: Database) -> dict[tuple[str, date], dict[str, Any]]:
    return {(user, week): kpi for user, week, kpi in database("SELECT user_id, week_start, kpis FROM weekly_kpi")}


def obvious(rows: list[Row], week: Week) -> dict[str, dict[str, float]]:
    """Every learner's KPIs, one learner, window and row after the other."""
    seen, log = set(), []
    for row in rows:
        event_key = (row.student_id, row.item_id, row.started_at)
        if event_key not in seen and week.moment - 56 * DAY <= row.started_at < week.moment:
            seen.add(event_key)
            log.append(row)
    return {
        user: _learner([row for row in log if row.student_id == user], week) for user in {row.student_id for row in log}
    }


def _learner(log: list[Row], week: Week) -> dict[str, float]:
    t = week.moment

    def between(older: int, newer: int) -> list[Row]:
        return [row for row in log if t - older * DAY <= row.started_at < t - newer * DAY]

    def answers(rows: list[Row]) -> list[bool]:
        return [row.correct for row in rows if row.correct is not None]

    found: dict[str, float] = {}
    now, before = answers(between(14, 0)), answers(between(28, 14))
    if now and before:
        p = mean(now)
        se = math.sqrt(p * (1 - p) / len(now))
        found["I_t"] = (p - mean(before)) * min(1, len(now) / 30) * (1 - min(0.5, 1.96 * se))

    def times(rows: list[Row]) -> list[int]:
        return [row.milliseconds for row in rows if row.correct and row.milliseconds is not None]

    if times(between(28, 0)) and times(between(56, 28)) and median(times(between(56, 28))) > 0:
        slow, fast = median(times(between(56, 28))), median(times(between(28, 0)))
        found["E_t"] = max(0, (slow - fast) / slow)

    recovered = []
    for item in {row.item_id for row in between(56, 28) if row.correct is False}:
        again = [row for row in between(28, 0) if row.item_id == item and row.correct is not None]
        if again:
            recovered.append(max(again, key=lambda row: row.started_at).correct)
    if recovered:
        found["R_t"] = mean(recovered)

    sessions = defaultdict(list)
    for row in log:
        sessions[row.session].append(row)
    begins = sorted(min(row.started_at for row in rows) for rows in sessions.values())
    gaps = [(later - earlier) / DAY for earlier, later in pairwise(begins)]
    if gaps:
        found["mean_gap"] = mean(gaps)
    recent = defaultdict(list)
    for row in between(28, 0):
        recent[row.session].append(row)
    found["sessions"] = len(recent)
    found["A_t"] = 0
    if recent:
        hints = mean(sum(bool(row.hint_used) for row in rows) for rows in recent.values())
        dwells = [[row.seconds for row in rows if row.seconds is not None] for rows in recent.values()]
        dwell = mean([sum(dwell) for dwell in dwells if dwell] or [0])
        regular = 0 if not gaps else 1 if mean(gaps) <= 1 else 1 / mean(gaps)
        found["A_t"] = (
            0.35 * min(1, len(recent) / 28) + 0.25 * regular + 0.2 * (1 - min(1, hints / 3)) + 0.2 * min(1, dwell / 900)
        )

    own = answers([row for row in log if row.started_at >= datetime.combine(week.start, datetime.min.time(), UTC)])
    found["attempts"] = len(own)
    if own:
        found["accuracy"] = mean(own)
    return found


# Moments at which windows and calendars are easily got wrong: a plain Thursday noon, Monday at midnight, the turn of a
# year within a week, and the ends of summer time in New York and Kolkata's half hour (the sessions' time zones below).
AS_OF = st.sampled_from(
    [
        datetime(2025, 11, 6, 12, tzinfo=UTC),
        datetime(2025, 11, 3, tzinfo=UTC),
        datetime(2025, 1, 1, 23, 59, 59, tzinfo=UTC),
        datetime(2024, 12, 30, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 3, 11, 5, 30, tzinfo=UTC),
        datetime(2021, 1, 4, 12, tzinfo=UTC),  # after the 53rd week of 2020
        datetime(2024, 2, 29, 6, tzinfo=UTC),
    ]
)
TIME_ZONE = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
# How long before T: on both sides of every window's edge, or anywhere.
EDGES = [timedelta(days=days, seconds=s) for days in (0, 7, 14, 21, 28, 56, 63) for s in (-1, 0, 1)]
BEFORE = st.sampled_from(EDGES) | st.integers(0, 60 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@st.composite
def rows(draw: st.DrawFn, t: datetime) -> Row:
    started = t - draw(BEFORE)
    return Row(
        student_id=draw(st.sampled_from(["ada", "ben", "cleo"])),
        item_id=draw(st.sampled_from(["i1", "i2", "i3"])),
        correct=draw(st.sampled_from([True, False, None])),
        response_time_ms=draw(st.none() | st.integers(-10, 10) | st.integers(0, 2_000_000)),
        hint_used=draw(st.sampled_from([True, False, None])),
        started_at=started,
        completed_at=draw(st.none() | st.integers(-5, 4_000).map(lambda seconds: started + timedelta(seconds=seconds))),
        session_id=draw(st.sampled_from([None, "s1", "s2", "s3"])),
    )


LOGS = AS_OF.flatmap(lambda t: st.tuples(st.just(t), st.lists(rows(t), min_size=1, max_size=60)))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(log=LOGS, time_zone=TIME_ZONE)
def test_kpis_equal_the_obvious_implementation(
    database: Database, log: tuple[datetime, list[Row]], time_zone: str
) -> None:
    as_of, drawn = log
    database("TRUNCATE attempt, weekly_kpi")
    database("SELECT set_config('timezone', %s, false)", time_zone)
    write(database, drawn)
    open_log(database.conn, as_of)
    weeks = weeks_to_compute(as_of, 2)
    expected = {}
    for week in weeks:
        merge_week(database.conn, week)
        expected |= {(user, week.start): found for user, found in obvious(drawn, week).items()}
    found = kpis(database)
    assert found.keys() == expected.keys()
    for key, kpi in expected.items():
        assert found[key] == pytest.approx(kpi, rel=1e-9, abs=1e-12), key
        event("all KPIs" if kpi.keys() == set(KPI_KEYS) else "some KPIs absent")


def test_long_log_has_every_kpi_and_equals_the_obvious_implementation(simulated: Database) -> None:
    log = [
        Row(*row)
        for row in simulated(
            "SELECT student_id, item_id, correct, response_time_ms, hint_used, started_at, completed_at, session_id"
            " FROM attempt WHERE student_id < 'learner-000041'"
        )
    ]
    (newest,) = simulated("SELECT max(week_start) FROM weekly_kpi")[0]
    week = Week(newest - 7 * DAY, datetime.combine(newest, datetime.min.time(), UTC))
    expected = obvious(log, week)
    found = kpis(simulated)
    assert len(expected) >= 38
    assert sum(kpi.keys() == set(KPI_KEYS) for kpi in expected.values()) > 25
    for user, kpi in expected.items():
        assert found[user, week.start] == pytest.approx(kpi, rel=1e-9, abs=1e-12), user


@pytest.mark.parametrize(
    ("as_of", "starts", "last_moment"),
    [
        # Thursday: two complete weeks and the one under way
        (datetime(2025, 11, 6, 12, tzinfo=UTC), ["2025-10-20", "2025-10-27", "2025-11-03"], "2025-11-06T12:00"),
        # Monday at midnight: the new week has not begun
        (datetime(2025, 11, 3, tzinfo=UTC), ["2025-10-20", "2025-10-27"], "2025-11-03T00:00"),
        # one second later it has
        (
            datetime(2025, 11, 3, 0, 0, 1, tzinfo=UTC),
            ["2025-10-20", "2025-10-27", "2025-11-03"],
            "2025-11-03T00:00:01",
        ),
        # ISO weeks do not stop at New Year
        (datetime(2025, 1, 1, 8, tzinfo=UTC), ["2024-12-16", "2024-12-23", "2024-12-30"], "2025-01-01T08:00"),
        # still Sunday in UTC where it is Monday in Tokyo
        (
            datetime.fromisoformat("2025-11-03T08:00+09:00"),
            ["2025-10-13", "2025-10-20", "2025-10-27"],
            "2025-11-02T23:00",
        ),
    ],
)
def test_weeks_are_iso_weeks_in_utc(as_of: datetime, starts: list[str], last_moment: str) -> None:
    weeks = weeks_to_compute(as_of, 2)
    assert [week.start.isoformat() for week in weeks] == starts
    assert weeks[-1].moment == datetime.fromisoformat(last_moment).replace(tzinfo=UTC)
    assert all(week.moment == datetime.combine(week.start + 7 * DAY, datetime.min.time(), UTC) for week in weeks[:-1])


T = datetime(2025, 11, 3, tzinfo=UTC)
WEEK = Week(date(2025, 10, 27), T)


def answer(before: timedelta, *, right: bool | None = True, item: str = "i1", session: str | None = None) -> Row:
    return Row("ada", item, right, 1000, False, T - before, None, session)


def week_of(database: Database, drawn: list[Row]) -> dict[str, Any]:
    write(database, drawn)
    open_log(database.conn, T)
    merge_week(database.conn, WEEK)
    return kpis(database)["ada", WEEK.start]


def test_unscored_rows_are_visits_and_never_answers(database: Database) -> None:
    kpi = week_of(database, [answer(DAY, right=True), *(answer(n * DAY, right=None) for n in (2, 3, 4, 5))])
    assert (kpi["attempts"], kpi["accuracy"], kpi["sessions"], kpi["mean_gap"]) == (1, 1, 5, 1)


def test_only_visits_leave_accuracy_out(database: Database) -> None:
    kpi = week_of(database, [answer(DAY, right=None)])
    assert kpi.keys() == {"A_t", "sessions", "attempts"}


def test_midnight_divides_weeks_and_days(database: Database) -> None:
    one = timedelta(microseconds=1)
    kpi = week_of(database, [answer(7 * DAY), answer(7 * DAY + one, right=False)])
    assert kpi["attempts"] == 1  # Monday 00:00 belongs to the week, the moment before it does not
    assert kpi["sessions"] == 2  # and it is another day


def test_improvement_by_hand(database: Database) -> None:
    # 12 of 15 right in the last 14 days, 5 of 10 before: (.8 - .5) * (15/30) * (1 - 1.96 sqrt(.8 * .2 / 15))
    recent = [answer(DAY * 3, right=n < 12, item=f"a{n}") for n in range(15)]
    earlier = [answer(DAY * 20, right=n < 5, item=f"b{n}") for n in range(10)]
    assert week_of(database, recent + earlier)["I_t"] == pytest.approx(0.3 * 0.5 * (1 - 0.20242849), abs=1e-6)


def test_keys_that_are_not_ours_survive_and_stale_ones_go(database: Database) -> None:
    database(
        "INSERT INTO weekly_kpi (user_id, week_start, kpis) VALUES ('ada', %s, %s)",
        WEEK.start,
        Jsonb({"S": 0.7, "P": 0.4, "sigma": 0.1, "badge": {"gold": [1]}, "E_t": 0.9, "attempts": 99}),
    )
    kpi = week_of(database, [answer(DAY)])
    assert {key: kpi[key] for key in ("S", "P", "sigma", "badge")} == {
        "S": 0.7,
        "P": 0.4,
        "sigma": 0.1,
        "badge": {"gold": [1]},
    }
    assert kpi["attempts"] == 1
    assert "E_t" not in kpi  # there is nothing earlier to compare with


def test_a_second_run_changes_nothing(simulated: Database) -> None:
    before = kpis(simulated)
    (as_of,) = simulated("SELECT detail ->> 'end' FROM simulated_truth.origin")[0]
    open_log(simulated.conn, datetime.fromisoformat(as_of))
    for week in weeks_to_compute(datetime.fromisoformat(as_of), 16)[:-1]:
        merge_week(simulated.conn, week)
    weeks = {week for _, week in before}
    complete = {key: kpi for key, kpi in before.items() if key[1] != max(weeks)}
    assert {key: kpi for key, kpi in kpis(simulated).items() if key in complete} == complete


def test_stage_counts_rows_and_says_what_it_did(simulated: Database) -> None:
    simulated("TRUNCATE weekly_kpi, analytics_runs")
    assert invoke("compute-weekly-kpis", "--kpi-lookback-weeks", "1", env={"DATABASE_URL": simulated.url}) == 0
    ((status, read, written),) = simulated("SELECT status, rows_read, rows_written FROM analytics_runs")
    (rows_in_table,) = simulated("SELECT count(*) FROM weekly_kpi")[0]
    assert (status, written) == ("succeeded", rows_in_table)
    assert read > 10_000
    assert len(simulated("SELECT DISTINCT week_start FROM weekly_kpi")) == 2


def test_dry_run_writes_nothing(simulated: Database) -> None:
    simulated("TRUNCATE weekly_kpi, analytics_runs")
    assert invoke("compute-weekly-kpis", "--dry-run", env={"DATABASE_URL": simulated.url}) == 0
    assert simulated("SELECT count(*) FROM weekly_kpi") == simulated("SELECT count(*) FROM analytics_runs") == [(0,)]


def test_as_of_repeats_an_earlier_run(simulated: Database) -> None:
    (newest,) = simulated("SELECT max(week_start) FROM weekly_kpi")[0]
    week = newest - 14 * DAY
    before = {key: kpi for key, kpi in kpis(simulated).items() if key[1] == week}
    simulated("TRUNCATE weekly_kpi")
    as_of = (week + 7 * DAY).isoformat()
    assert invoke("compute-weekly-kpis", "--as-of", as_of, env={"DATABASE_URL": simulated.url}) == 0
    assert {key: kpi for key, kpi in kpis(simulated).items() if key[1] == week} == before
    assert max(key[1] for key in kpis(simulated)) == week


def test_empty_log_is_skipped_with_a_reason(database: Database) -> None:
    assert invoke("compute-weekly-kpis", env={"DATABASE_URL": database.url}) == 0
    ((status, reason),) = database.runs("compute-weekly-kpis")
    assert status == "skipped"
    assert "no row in the 56 days" in reason


def test_dirty_rows_change_nothing_but_their_own_times(database: Database) -> None:
    end = datetime(2025, 11, 5, 12, tzinfo=UTC)
    found = []
    for dirty in (False, True):
        simulate(database.conn, learners=40, weeks=10, seed=3, end=end, dirty=dirty)
        open_log(database.conn, end)
        for week in weeks_to_compute(end, 3):
            merge_week(database.conn, week)
        found.append(
            {
                key: {name: kpi[name] for name in kpi if name not in {"E_t", "A_t"}}
                for key, kpi in kpis(database).items()
            }
        )
        assert all(-1 <= kpi.get("I_t", 0) <= 1 for kpi in kpis(database).values())
        for name in ("E_t", "R_t", "A_t", "accuracy"):
            assert all(0 <= kpi.get(name, 0) <= 1 for kpi in kpis(database).values())
    assert found[0] == found[1]


def test_kpis_do_not_depend_on_the_form_of_the_ids(database: Database) -> None:
    end = datetime(2025, 11, 5, 12, tzinfo=UTC)
    found = []
    for form in ("same", "md5-uuid"):
        simulate(database.conn, learners=20, weeks=10, seed=3, end=end, student_id_form=form)
        open_log(database.conn, end, form)
        for week in weeks_to_compute(end, 1):
            merge_week(database.conn, week)
        found.append(kpis(database))
    assert len(found[0]) == 40
    assert found[0] == found[1]
