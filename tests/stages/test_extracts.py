"""What each stage reads, against slow, obvious implementations of the comments at the head of its SQL."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from held_out_scores import normal_scores
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from seed_analytics import db
from seed_analytics.db import Columns
from seed_analytics.log_view import open_log
from seed_analytics.run import Run
from seed_analytics.stages.fit_bayesian_growth import scored
from support import Database

DAY = timedelta(days=1)
WEEK = timedelta(weeks=1)
EPOCH = date(1970, 1, 1)

drawn = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# A Thursday noon, midnights of a Thursday and a Monday, a second to and a second past midnight, and a leap day.
AS_OF = st.sampled_from(
    [
        datetime(2025, 11, 6, 12, tzinfo=UTC),
        datetime(2025, 11, 6, tzinfo=UTC),
        datetime(2025, 11, 3, tzinfo=UTC),
        datetime(2025, 1, 1, 23, 59, 59, tzinfo=UTC),
        datetime(2024, 12, 30, 0, 0, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 6, tzinfo=UTC),
    ]
)


@dataclass(frozen=True)
class Row:
    student_id: str
    item_id: str
    topic_id: str | None
    correct: bool | None
    started_at: datetime

    @property
    def day(self) -> date:
        return self.started_at.astimezone(UTC).date()


def rows(moment: Callable[[datetime], st.SearchStrategy[datetime]]) -> st.SearchStrategy[tuple[datetime, list[Row]]]:
    """A moment and a log about it, with events that were delivered twice and disagree."""

    def log(as_of: datetime) -> st.SearchStrategy[tuple[datetime, list[Row]]]:
        row = st.builds(
            Row,
            student_id=st.sampled_from(["ada", "ada", "ben", "cleo"]),
            item_id=st.sampled_from(["i1", "i2", "i3"]),
            topic_id=st.sampled_from(["t1", "t2", None]),
            correct=st.sampled_from([True, False, None]),
            started_at=moment(as_of),
        )
        return st.tuples(st.just(as_of), st.just([]) | st.lists(row, min_size=15, max_size=45))

    return AS_OF.flatmap(log)


def before_midnight(days: st.SearchStrategy[int]) -> Callable[[datetime], st.SearchStrategy[datetime]]:
    """Moments some days before the midnight that a moment follows, most of them within a second of a midnight."""

    def moment(as_of: datetime) -> st.SearchStrategy[datetime]:
        midnight = datetime.combine(as_of.date(), time(), UTC)
        within = st.sampled_from([-1, 0, 1, 43_200]) | st.integers(0, 86_399)
        return st.builds(lambda ago, seconds: midnight - ago * DAY + timedelta(seconds=seconds), days, within)

    return moment


def clean(log: list[Row], as_of: datetime) -> list[Row]:
    """The rows begun before the moment; of an event delivered twice, the first."""
    found: dict[tuple[str, datetime, str], Row] = {}
    for row in log:
        if row.started_at < as_of:
            found.setdefault((row.student_id, row.started_at, row.item_id), row)
    return sorted(found.values(), key=lambda row: (row.started_at, row.item_id))


def write(database: Database, log: list[Row]) -> None:
    database("TRUNCATE attempt")
    with database.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO attempt (student_id, item_id, topic_id, correct, started_at) VALUES (%s, %s, %s, %s, %s)",
            [astuple(row) for row in log],
        )


def reader(database: Database, as_of: datetime) -> Run[Any]:
    """A run that only reads."""
    open_log(database.conn, as_of)
    return Run("extract", "extract-1", None, database.conn, as_of, None)


def by_row(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def near(values: dict[str, Any]) -> dict[str, Any]:
    """The same, with numbers that may differ in the last digits; sums do where their order is another."""
    return {
        name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, int | float) else value
        for name, value in values.items()
    }


# -- fit-survival-churn ------------------------------------------------------------------------------------------------


def obvious_visits(log: list[Row], as_of: datetime, lookback: int) -> dict[tuple[str, int], dict[str, Any]]:
    last = as_of.astimezone(UTC).date() - DAY
    known = [row for row in clean(log, as_of) if row.day <= last]
    found = {}
    for user in {row.student_id for row in known}:
        own = [row for row in known if row.student_id == user]
        days = sorted({row.day for row in own})
        for day in (day for day in days if day > last - lookback * DAY):
            later, earlier = [d for d in days if d > day], [d for d in days if d < day]
            recent = [row for row in own if day - 28 * DAY < row.day <= day]
            answers = [row.correct for row in recent if row.correct is not None]
            previous = (day - max(earlier)).days if earlier else 56
            found[user, (day - EPOCH).days] = {
                "gap_days": ((min(later) if later else last) - day).days,
                "event": bool(later),
                "is_last": not later,
                "log_previous_gap": math.log(min(previous, 56)),
                "visits_per_week": len({row.day for row in recent}) / 4,
                "log_activity": math.log(sum(row.day == day for row in own)),
                "accuracy_28d": (sum(answers) + 1) / (len(answers) + 2),
                "last_day": (last - EPOCH).days,
            }
    return found


def visits(run: Run[Any], lookback: int) -> dict[tuple[str, int], dict[str, Any]]:
    found = by_row(run.read("fit_survival_churn/visits.sql", lookback_days=lookback))
    assert [(row["user_id"], row["day"]) for row in found] == sorted((row["user_id"], row["day"]) for row in found)
    return {(row.pop("user_id"), row.pop("day")): row for row in found}


# both sides of every edge of the windows (28, 56 days, the look-backs and their warm-up), or anywhere
VISIT_DAYS = (
    st.sampled_from([1, 2, 28, 29, 30])  # 26, 27 and 28 days apart
    | st.sampled_from([0, 1, 30, 31, 56, 57, 58, 86, 87, 90, 91, 146, 147])
    | st.integers(0, 160)
)


@drawn
@given(log=rows(before_midnight(VISIT_DAYS)), lookback=st.sampled_from([1, 30, 90]))
def test_visits_equal_the_obvious_implementation(
    database: Database, log: tuple[datetime, list[Row]], lookback: int
) -> None:
    as_of, written = log
    write(database, written)
    found, expected = visits(reader(database, as_of), lookback), obvious_visits(written, as_of, lookback)
    assert found.keys() == expected.keys()
    for visit, row in expected.items():
        assert found[visit] == near(row), visit


def test_nothing_of_a_visit_but_its_end_depends_on_what_came_later(simulated: Database) -> None:
    ((now,),) = simulated("SELECT date_trunc('day', now())")
    then, lookback = now - 30 * DAY, 40
    before = visits(reader(simulated, then), lookback)
    simulated("UPDATE attempt SET correct = NOT correct WHERE started_at >= %s", then)
    simulated("DELETE FROM attempt WHERE started_at >= %s AND id %% 3 = 0", then)
    after = visits(reader(simulated, now), lookback + 30)
    assert len(before) > 1000
    ended = ("gap_days", "event", "is_last", "last_day")
    for visit, row in before.items():
        covariates = {name: value for name, value in row.items() if name not in ended}
        assert {name: after[visit][name] for name in covariates} == covariates, visit
        if not row["is_last"]:
            assert [after[visit][name] for name in ended[:3]] == [row[name] for name in ended[:3]], visit


# -- calibrate-irt-weekly ----------------------------------------------------------------------------------------------


def obvious_responses(
    log: list[Row], as_of: datetime, lookback: int, topic: str | None, most: int
) -> list[tuple[str, str, int]]:
    first: dict[tuple[str, str], Row] = {}
    for row in clean(log, as_of):  # the oldest first
        if row.correct is not None and topic in (None, row.topic_id):
            first.setdefault((row.student_id, row.item_id), row)
    recent = [row for row in first.values() if row.started_at >= as_of - lookback * DAY]
    recent.sort(key=lambda row: (row.student_id, row.item_id))
    recent.sort(key=lambda row: row.started_at, reverse=True)  # stable: of one moment, by learner and item
    kept = recent[:most] if most else recent
    return sorted((row.student_id, row.item_id, int(row.correct or 0)) for row in kept)


def to_the_look_back(as_of: datetime) -> st.SearchStrategy[datetime]:
    near = st.sampled_from([timedelta(days=days, seconds=s) for days in (0, 1, 60) for s in (-1, 0, 1)])
    return st.builds(lambda ago: as_of - ago, near | st.integers(0, 70).map(lambda days: days * DAY))


@drawn
@given(
    log=rows(to_the_look_back),
    lookback=st.sampled_from([1, 60]),
    topic=st.sampled_from([None, "t1"]),
    most=st.sampled_from([0, 1, 3]),
)
def test_responses_equal_the_obvious_implementation(
    database: Database, log: tuple[datetime, list[Row]], lookback: int, topic: str | None, most: int
) -> None:
    as_of, written = log
    write(database, written)
    found = reader(database, as_of).read(
        "calibrate_irt_weekly/responses.sql", lookback_days=lookback, topic_id=topic, max_obs=most
    )
    assert list(zip(*found.values(), strict=True)) == obvious_responses(written, as_of, lookback, topic, most)


# -- weekly_kpi --------------------------------------------------------------------------------------------------------

KEYS = ("I_t", "E_t", "R_t", "A_t", "accuracy", "sessions", "mean_gap", "attempts")
# what a platform may have written: a number, something else, or nothing
KPI = st.floats(-1, 1).map(lambda value: round(value, 6)) | st.integers(0, 3) | st.sampled_from([None, "0.5", [1]])
Kpis = dict[tuple[str, date], dict[str, Any]]


def monday(as_of: datetime) -> date:
    day = as_of.astimezone(UTC).date()
    return day - day.weekday() * DAY


@st.composite
def kpi_weeks(draw: st.DrawFn) -> tuple[datetime, Kpis]:
    as_of = draw(AS_OF)
    week = st.integers(-6, 1).map(lambda number: monday(as_of) + number * WEEK)
    key = st.tuples(st.sampled_from(["ada", "ben", "cleo"]), week)
    kpis = st.dictionaries(st.sampled_from((*KEYS, "badge")), KPI, max_size=5)
    return as_of, draw(st.dictionaries(key, kpis, max_size=20))


def write_kpis(database: Database, kpis: Kpis) -> None:
    database("TRUNCATE weekly_kpi")
    with database.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO weekly_kpi (user_id, week_start, kpis) VALUES (%s, %s, %s)",
            [(user, week, Jsonb(kpi)) for (user, week), kpi in kpis.items()],
        )


def number(kpi: dict[str, Any], key: str) -> float | None:
    value = kpi.get(key)
    return value if isinstance(value, int | float) else None


def complete_weeks(as_of: datetime, lookback: int) -> list[date]:
    return [monday(as_of) - back * WEEK for back in range(lookback, 0, -1)]


@drawn
@given(written=kpi_weeks(), lookback=st.sampled_from([1, 4]))
def test_features_of_segments_equal_the_obvious_implementation(
    database: Database, written: tuple[datetime, Kpis], lookback: int
) -> None:
    as_of, kpis = written
    write_kpis(database, kpis)
    expected = []
    for user in ("ada", "ben", "cleo"):
        own = [kpi for (who, week), kpi in kpis.items() if who == user and week in complete_weeks(as_of, lookback)]
        if any(key in kpi for kpi in own for key in ("I_t", "E_t", "R_t", "A_t", "accuracy", "sessions")):
            known = {key: [value for kpi in own if (value := number(kpi, key)) is not None] for key in KEYS}
            expected.append({"user_id": user} | {key: mean(v) if v else None for key, v in known.items()})
    found = by_row(reader(database, as_of).read("cluster_segments/features.sql", lookback_weeks=lookback))
    assert found == [near(row) for row in expected]


@drawn
@given(written=kpi_weeks(), lookback=st.sampled_from([1, 4]), metrics=st.sampled_from([["A_t"], ["R_t", "I_t"]]))
def test_weeks_of_forecasts_equal_the_obvious_implementation(
    database: Database, written: tuple[datetime, Kpis], lookback: int, metrics: list[str]
) -> None:
    as_of, kpis = written
    write_kpis(database, kpis)
    expected = []
    for metric in metrics:
        for week in complete_weeks(as_of, lookback):  # never the unfinished one
            values = [v for (_, on), kpi in kpis.items() if on == week and (v := number(kpi, metric)) is not None]
            value = mean(values) if values else None
            expected.append({"metric": metric, "week_start": week, "value": value, "learners": len(values)})
    found = reader(database, as_of).read("forecast_prophet/weeks.sql", metrics=metrics, lookback_weeks=lookback)
    assert by_row(found) == [near(row) for row in expected]


# -- fit-bayesian-growth -----------------------------------------------------------------------------------------------

Scores = dict[tuple[str, int], float]
SCALING = {"middle": 1.5, "span": 3, "center": 0.4, "scale": 0.25}


def growth(run: Run[Any], source: str, lookback: int) -> Iterator[Columns]:
    """What the stage reads over the scores of a source: scale, students, rows of all, rows of two."""
    scores = {"lookback_weeks": lookback, "score_source": "I_t"}
    for name, params in (
        ("scale", {}),
        ("students", SCALING),
        ("rows", SCALING | {"users": None}),
        ("rows", SCALING | {"users": ["ada", "cleo"]}),
    ):
        yield run.read_over(scored(source, "raw"), f"fit_bayesian_growth/{name}.sql", **scores, **params)


def assert_growth_is_of(scores: Scores, read: Iterator[Columns]) -> None:
    scale, students, everybody, two = map(by_row, read)
    values = list(scores.values())
    assert scale == [
        near(
            {
                "rows": len(values),
                "users": len({user for user, _ in scores}),
                "weeks": len({week for _, week in scores}),
                "center": mean(values) if values else None,
                "scale": stdev(values) if len(values) > 1 else None,
            }
        )
    ]
    scaled = [(user, (week - 1.5) / 3, (score - 0.4) / 0.25) for (user, week), score in sorted(scores.items())]
    for found, users in ((everybody, {"ada", "ben", "cleo"}), (two, {"ada", "cleo"})):
        wanted = [row for row in scaled if row[0] in users]
        assert [row["user_id"] for row in found] == [row[0] for row in wanted]
        assert [row["week"] for row in found] == pytest.approx([row[1] for row in wanted], abs=1e-12)
        assert [row["score"] for row in found] == pytest.approx([row[2] for row in wanted], abs=1e-12)
    assert [row["user_id"] for row in students] == sorted({user for user, _ in scores})
    for row in students:
        own = [(x, y) for user, x, y in scaled if user == row["user_id"]]
        sums = {
            "n": len(own),
            "sw": sum(x for x, _ in own),
            "sww": sum(x * x for x, _ in own),
            "sy": sum(y for _, y in own),
            "swy": sum(x * y for x, y in own),
            "syy": sum(y * y for _, y in own),
        }
        assert row == near({"user_id": row["user_id"]} | sums)


# some in the unfinished week, most in the weeks before it and about their edges
SCORE_DAYS = st.sampled_from([0, 1, 3, 4, 7, 10, 11, 24, 25, 31, 32]) | st.integers(0, 35)


@drawn
@given(log=rows(before_midnight(SCORE_DAYS)), lookback=st.sampled_from([1, 4]))
def test_weekly_accuracies_equal_the_obvious_implementation(
    database: Database, log: tuple[datetime, list[Row]], lookback: int
) -> None:
    as_of, written = log
    write(database, written)
    scores = {}
    for place, week in enumerate(complete_weeks(as_of, lookback)):
        for user in ("ada", "ben", "cleo"):
            own = [row for row in clean(written, as_of) if row.student_id == user and week <= row.day < week + WEEK]
            answers = [row.correct for row in own if row.correct is not None]
            if len(answers) >= 3:
                scores[user, place] = mean(answers)
    assert_growth_is_of(scores, growth(reader(database, as_of), "accuracy", lookback))
    unscaled = {"middle": 0, "span": 1, "center": 0, "scale": 1, "users": None, "lookback_weeks": lookback}
    relations, rows = scored("accuracy", "standing"), "fit_bayesian_growth/rows.sql"
    found = by_row(reader(database, as_of).read_over(relations, rows, **unscaled))
    assert {(row["user_id"], row["week"]): row["score"] for row in found} == standings(scores)


def standings(scores: Scores) -> Any:
    """Normal scores in each week, as near as SQL's formula comes to them."""
    found = {}
    for week in {week for _, week in scores}:
        own = {key: score for key, score in scores.items() if key[1] == week}
        found |= dict(zip(own, normal_scores(np.array([*own.values()])), strict=True))
    return pytest.approx(found, abs=5e-4)


@drawn
@given(written=kpi_weeks(), lookback=st.sampled_from([1, 4]))
def test_weekly_kpi_scores_equal_the_obvious_implementation(
    database: Database, written: tuple[datetime, Kpis], lookback: int
) -> None:
    as_of, kpis = written
    write_kpis(database, kpis)
    weeks = complete_weeks(as_of, lookback)
    scores = {
        (user, weeks.index(week)): value
        for (user, week), kpi in kpis.items()
        if week in weeks and (value := number(kpi, "I_t")) is not None
    }
    assert_growth_is_of(scores, growth(reader(database, as_of), "kpi", lookback))


@drawn
@example(scores={(f"u{place}", 0): place for place in range(10_000)})
@given(
    scores=st.dictionaries(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2)),
        st.sampled_from([0, 0.5, 1]) | st.floats(-1e6, 1e6),
    )
)
def test_standings_are_the_normal_scores_of_mean_ranks_in_each_week(database: Database, scores: Scores) -> None:
    measured = "SELECT * FROM unnest(%s::text[], %s::int[], %s::float[]) AS one (user_id, week, score)"
    query = f"WITH measured AS ({measured}) {db.read_sql('fit_bayesian_growth/standings.sql')}"
    users, weeks = [user for user, _ in scores], [week for _, week in scores]
    found = database(query, users, weeks, list(map(float, scores.values())))
    assert len(found) == len(scores)
    assert {(user, week): standing for user, week, standing in found} == standings(scores)


# -- how much of the log is read ---------------------------------------------------------------------------------------


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan.get("Relation Name") == "attempt":
        yield plan
    for child in plan.get("Plans", []):
        yield from scans(child)


@pytest.mark.parametrize("form", ["same", "md5-uuid"])
@pytest.mark.parametrize(
    ("extract", "params"),
    [
        ("fit_survival_churn/visits.sql", {"lookback_days": 20}),
        ("fit_bayesian_growth/scores_accuracy.sql", {"lookback_weeks": 3}),
        ("compute_weekly_kpis/log_span.sql", {}),
    ],
)
def test_only_the_look_back_of_the_log_is_read(
    simulated: Database, extract: str, params: dict[str, int], form: Any
) -> None:
    ((now,),) = simulated("SELECT now()")
    open_log(simulated.conn, now, form)
    ((plan,),) = simulated.conn.execute(
        f"EXPLAIN (FORMAT JSON) {db.read_sql(extract)}", {"as_of": now, **params}
    ).fetchall()
    found = list(scans((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]))
    assert found
    for scan in found:
        conditions = " ".join(scan.get(name, "") for name in ("Index Cond", "Recheck Cond", "Filter"))
        assert "started_at >= " in conditions, conditions
