"""Every stage, through PostgreSQL and the services: what must not change its numbers does not.

Each test changes the data of a database in which every stage has published, runs one stage again, and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from typing import Any

import numpy as np
import psycopg
import pytest
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres, RService
from seed_analytics.settings import KPI_KEYS, MODEL_STAGES
from support import TABLES, Database, copy_of, run_with, shuffle

Rows = list[tuple[Any, ...]]
Run = Callable[..., int]

# What each stage's newest run has published: a name (of an item, user or week) and its numbers or label.
PUBLISHED = {
    "calibrate-irt-weekly": [
        "SELECT item_id, a, b, se_a, se_b FROM irt_item_params"
        " WHERE run_id = (SELECT max(run_id) FROM irt_fit_meta) AND a IS NOT NULL",
        "SELECT user_id, theta, se, n_responses FROM irt_abilities WHERE run_id = (SELECT max(run_id) FROM irt_fit_meta)",
    ],
    "cluster-segments": ["SELECT user_id, segment_label FROM user_segments"],
    "fit-survival-churn": ["SELECT user_id, risk, rank_percentile, days_away FROM survival_risk"],
    "forecast-prophet": [
        "SELECT place, (forecast -> 'yhat' ->> place)::float, (forecast -> 'lower' ->> place)::float,"
        " (forecast -> 'upper' ->> place)::float"
        " FROM prophet_fit_meta, generate_series(0, jsonb_array_length(forecast -> 'yhat') - 1) AS place"
        " WHERE run_id = (SELECT max(run_id) FROM prophet_fit_meta)",
        "SELECT place, (history -> 'expected' ->> place)::float, (history -> 'lower' ->> place)::float,"
        " (history -> 'upper' ->> place)::float, (history -> 'score' ->> place)::float, history -> 'anomaly' ->> place,"
        " (SELECT a.score FROM anomalies AS a WHERE a.run_id = m.run_id"
        "  AND a.week_start = (history -> 'week_start' ->> place)::date)"
        " FROM prophet_fit_meta AS m, generate_series(0, jsonb_array_length(history -> 'score') - 1) AS place"
        " WHERE run_id = (SELECT max(run_id) FROM prophet_fit_meta) AND history -> 'score' ->> place IS NOT NULL",
    ],
    "fit-bayesian-growth": [
        "SELECT user_id, (kpis ->> 'P')::float, (kpis ->> 'sigma')::float FROM weekly_kpi WHERE kpis ? 'P'"
    ],
}
WEEKS_LATER = -52  # backwards, since rows after now are not read
LOGS = {"attempt": "student_id", "weekly_kpi": "user_id", "features_topic_daily": "user_id"}


def found(database: Database, stage: str) -> list[dict[Any, tuple[Any, ...]]]:
    return [{name: numbers for name, *numbers in database(query)} for query in PUBLISHED[stage]]


def same(new: Sequence[Any], old: Sequence[Any], tolerance: float = 1e-6) -> bool:
    """Equal labels, and equal numbers to a tolerance, relative or absolute."""
    return all(
        one == (other if isinstance(other, str | None) else pytest.approx(other, rel=tolerance, abs=tolerance))
        for one, other in zip(new, old, strict=True)
    )


def unchanged(new: list[dict[Any, Any]], old: list[dict[Any, Any]], renamed: dict[str, str] | None = None) -> None:
    """Assert that each name, or what it is called by now, has the numbers that it had."""
    called = renamed or {}
    for one, other in zip(new, old, strict=True):
        assert len(other) > 0
        assert {called.get(name, name) for name in other} == one.keys()
        for name, numbers in other.items():
            assert same(one[called.get(name, name)], numbers), name


def forget(database: Database) -> None:
    """What has been published, but for the item parameters that link a run to the last."""
    database("UPDATE weekly_kpi SET kpis = kpis - 'P' - 'sigma' - 'S'")
    database("TRUNCATE user_segments, cluster_fit_meta, irt_fit_meta, prophet_fit_meta, survival_risk CASCADE")


def this_monday(database: Database) -> date:
    return date.fromisoformat(database("SELECT date_trunc('week', now())::date::text")[0][0])


def again(database: Database, run: Run, stage: str, weeks: int = 0, *argv: str) -> None:
    as_of = this_monday(database) + timedelta(weeks=weeks)
    assert run(database, stage, "--as-of", as_of.isoformat(), *argv) == ExitCode.OK, database.runs(stage)[-1]


# ---- Nothing changes


def rename(database: Database) -> None:
    for table, user in LOGS.items():
        database(f"UPDATE {table} SET {user} = md5({user})")


def shift(database: Database) -> int:
    database(
        f"UPDATE attempt SET started_at = started_at + interval '{WEEKS_LATER} weeks', completed_at = completed_at + interval '{WEEKS_LATER} weeks'"
    )
    for table, day in (("weekly_kpi", "week_start"), ("features_topic_daily", "date")):
        # by way of the far past, so that no row meets its neighbour's old key
        for weeks in (-5000, 5000 + WEEKS_LATER):
            database(f"UPDATE {table} SET {day} = {day} + {7 * weeks}")
    return WEEKS_LATER


def copy(database: Database) -> None:
    """A twin of every user, with the same rows."""
    for table, user in LOGS.items():
        columns = [
            name
            for (name,) in database(
                "SELECT column_name::text FROM information_schema.columns"
                f" WHERE table_schema = 'public' AND table_name = '{table}' AND column_name <> 'id'"
            )
        ]
        values = ", ".join(f"{name} || '-twin'" if name in (user, "session_id") else name for name in columns)
        database(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}")


def remove(database: Database) -> None:
    """One of the busiest users."""
    for table, user in LOGS.items():
        database(f"DELETE FROM {table} WHERE {user} = 'learner-000007'")


CHANGES: dict[str, Callable[[Database], int | None]] = {
    "shuffled rows": shuffle,
    "renamed users": rename,
    "dates shifted by weeks": shift,
    "a copy of every user": copy,
    "one user removed": remove,
}
NOTHING_CHANGES, ESTIMATES_STAY = [*CHANGES][:3], [*CHANGES][3:]


@dataclass(frozen=True)
class Changed:
    """A database of changed data in which no stage has run since.

    Attributes:
        change: one of `CHANGES`.
        before: what each stage had published.
        renamed: users' names before and after, where they have others.
        weeks: by how many the dates were moved.
        database: of one test.

    """

    change: str
    before: dict[str, list[dict[Any, tuple[Any, ...]]]]
    renamed: dict[str, str]
    weeks: int
    database: Database

    @property
    def twins(self) -> bool:
        """True where every user was copied."""
        return CHANGES[self.change] is copy


_names = iter(range(10**9))


@pytest.fixture(scope="module")
def changed_once(
    postgres: Postgres, published_template: str
) -> Callable[[str], tuple[str, Callable[[Database], Changed]]]:
    """The data changed, once for all stages: the name of their database, and what to make of a copy."""

    @cache
    def by(change: str) -> tuple[str, Callable[[Database], Changed]]:
        name = f"changed_{next(_names)}"
        url = postgres.create_database(name, template=published_template)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SET timezone TO 'UTC'")
            database = Database(url, conn)
            before = {stage: found(database, stage) for stage in MODEL_STAGES}
            users = database("SELECT DISTINCT student_id, md5(student_id) FROM attempt")
            forget(database)
            weeks = CHANGES[change](database) or 0
        renamed = dict(users) if change == "renamed users" else {}
        return name, partial(Changed, change, before, renamed, weeks)

    return by


@pytest.fixture
def changed(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    changed_once: Callable[[str], tuple[str, Callable[[Database], Changed]]],
) -> Iterator[Changed]:
    """``parametrize("changed", CHANGES, indirect=True)``: data changed so."""
    template, of = changed_once(request.param)
    for database in copy_of(postgres, template, f"changed_{next(_names)}"):
        yield of(database)


@pytest.mark.parametrize("stage", MODEL_STAGES)
@pytest.mark.parametrize("changed", NOTHING_CHANGES, indirect=True)
def test_a_stage_publishes_the_same_of(changed: Changed, run: Run, stage: str) -> None:
    again(changed.database, run, stage, changed.weeks)
    unchanged(found(changed.database, stage), changed.before[stage], changed.renamed)


# ---- Estimates stay


@dataclass(frozen=True)
class Stays:
    """By how much a published number of any name may move.

    Attributes:
        query: of the stage's in `PUBLISHED`.
        moved: of the old and the new numbers of a name, in the unit of the bounds.
        copy: bound where every user has a twin. A copy doubles the data against the priors (of discrimination, of
            growth) and adds ties to Cox's (Efron's likelihood is not twice itself).
        remove: bound where one user of 300, a three-hundredth of everything, is gone.

    """

    query: int
    moved: Callable[[Sequence[float], Sequence[float]], float]
    copy: float
    remove: float


def of(place: int, unit: int | None = None) -> Callable[[Sequence[float], Sequence[float]], float]:
    """The difference of a number, in units of another: of its own standard error, say."""
    return lambda old, new: (new[place] - old[place]) / (1 if unit is None else old[unit])


STAYS = {
    "calibrate-irt-weekly": {
        "a": Stays(0, of(0, unit=2), copy=1.5, remove=0.3),
        "b": Stays(0, of(1, unit=3), copy=0.8, remove=0.5),
        "theta": Stays(1, of(0, unit=1), copy=0.6, remove=0.05),
    },
    "fit-survival-churn": {
        "risk": Stays(0, of(0), copy=0.002, remove=0.002),
        "rank_percentile": Stays(0, of(1), copy=0.01, remove=0.01),
    },
    "forecast-prophet": {
        "yhat": Stays(0, of(0), copy=1e-6, remove=0.005),
        "lower": Stays(0, of(1), copy=1e-6, remove=0.005),
        "upper": Stays(0, of(2), copy=1e-6, remove=0.005),
        "expected": Stays(1, of(0), copy=1e-6, remove=0.005),
        "expected_lower": Stays(1, of(1), copy=1e-6, remove=0.005),
        "expected_upper": Stays(1, of(2), copy=1e-6, remove=0.005),
        "score": Stays(1, of(3), copy=1e-6, remove=0.5),
    },
    "fit-bayesian-growth": {
        "P": Stays(0, of(0), copy=0.01, remove=0.01),
        "sigma": Stays(0, of(1), copy=0.002, remove=0.002),
    },
}


@pytest.mark.parametrize("stage", STAYS)
@pytest.mark.parametrize("changed", ESTIMATES_STAY, indirect=True)
def test_estimates_stay_with(changed: Changed, run: Run, stage: str) -> None:
    again(changed.database, run, stage)
    before, after = changed.before[stage], found(changed.database, stage)
    for old, new in zip(before, after, strict=True):
        assert len(old.keys() - new.keys()) <= (not changed.twins)
        for twin in new.keys() - old.keys():
            assert same(new[twin], new[str(twin).removesuffix("-twin")]), twin
    if stage == "forecast-prophet" and changed.twins:  # a forecast of means, of which anomalies stay, too
        unchanged(after, before)
    for number, stays in STAYS[stage].items():
        old, new = before[stays.query], after[stays.query]
        moved = [abs(stays.moved(old[name], new[name])) for name in old.keys() & new.keys()]
        most = stays.copy if changed.twins else stays.remove
        assert max(moved) <= most, number
        assert np.mean(moved) <= most / 3, number
        assert changed.twins or max(moved) > 0, f"the user was to have a part in {number}"


@pytest.mark.parametrize("prior_sd", [0, 0.5])
def test_a_copy_of_every_user_moves_no_item_where_the_prior_counts_twice_too(
    published: Database, run: Run, prior_sd: float
) -> None:
    def items(least: int, spread: float) -> dict[Any, tuple[Any, ...]]:
        forget(published)
        settings = ("--mirt-prior-a-sdlog", str(spread), "--mirt-min-answers", str(least))
        again(published, run, "calibrate-irt-weekly", 0, *settings)
        return found(published, "calibrate-irt-weekly")[0]

    once = items(30, prior_sd)
    copy(published)
    twice = items(60, prior_sd / 2**0.5)
    assert once.keys() == twice.keys()
    for name, (a, b, *errors) in once.items():
        assert twice[name][:2] == pytest.approx([a, b], abs=1e-3), name
        assert twice[name][2:] == pytest.approx([error / 2**0.5 for error in errors], rel=0.01), name


# With held anchors the gate refuses a cohort as uniform as the third leaves behind: an sd of ability below half the anchors'.
@pytest.mark.parametrize(("linking", "share"), [("mean-sigma", 3), ("mean-sigma", 6), ("fixed", 6)])
def test_anchors_keep_the_scale_when_the_weakest_leave(published: Database, run: Run, linking: str, share: int) -> None:
    def calibrated() -> tuple[dict[Any, tuple[Any, ...]], float]:
        forget(published)
        again(published, run, "calibrate-irt-weekly", 0, "--mirt-linking", linking, "--mirt-min-answers", "15")
        items, abilities = found(published, "calibrate-irt-weekly")
        return items, float(np.mean([theta for theta, *_ in abilities.values()]))

    def easier_by(one: dict[Any, tuple[Any, ...]], other: dict[Any, tuple[Any, ...]]) -> float:
        return float(np.mean([one[name][1] - other[name][1] for name in one.keys() & other.keys()]))

    before, mean = calibrated()
    # by true ability: who is left out for having answered badly was also unlucky
    published(
        """DELETE FROM attempt WHERE student_id IN (
        SELECT user_id FROM simulated_truth.learners ORDER BY theta + 12 * growth
        LIMIT (SELECT count(*) / %s FROM simulated_truth.learners))""",
        share,
    )
    after, abler = calibrated()
    assert abler - mean > 0.25
    assert abs(easier_by(before, after)) < 0.1  # logits
    published("UPDATE question SET meta = meta - 'tags'")
    unlinked, _ = calibrated()
    assert easier_by(before, unlinked) > 0.25, "without anchors the abler make every item easier"


@pytest.mark.parametrize("changed", ESTIMATES_STAY, indirect=True)
def test_segments_stay_with(changed: Changed, run: Run) -> None:
    again(changed.database, run, "cluster-segments")
    (old,), (new,) = changed.before["cluster-segments"], found(changed.database, "cluster-segments")
    for twin in new.keys() - old.keys():
        assert new[twin] == new[str(twin).removesuffix("-twin")], twin
    common = old.keys() & new.keys()
    assert len(common) >= len(old) - 1
    assert len(new) == (2 * len(old) if changed.twins else len(common))
    assert sum(new[user] == old[user] for user in common) >= (1 if changed.twins else 0.98) * len(common)


# ---- Units


def test_the_unit_of_a_feature_does_not_matter_to_segments(published: Database, run: Run) -> None:
    old = found(published, "cluster-segments")
    forget(published)
    published(
        "UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object('sessions', (kpis ->> 'sessions')::float * 60)"
        " WHERE kpis ? 'sessions'"
    )
    again(published, run, "cluster-segments")
    assert found(published, "cluster-segments") == old


def test_the_unit_of_a_metric_scales_its_forecast(published: Database, run: Run) -> None:
    ahead, weeks = found(published, "forecast-prophet")
    scale(published, "I_t", 1000)
    again(published, run, "forecast-prophet")
    new_ahead, new_weeks = found(published, "forecast-prophet")
    for week, numbers in ahead.items():
        assert new_ahead[week] == pytest.approx([1000 * number for number in numbers], rel=1e-3, abs=0.01)
    assert any(odd == "true" for *_, odd, _ in weeks.values())
    for week, (*interval, score, odd, alarm) in weeks.items():
        *new_interval, new_score, new_odd, new_alarm = new_weeks[week]
        assert new_interval == pytest.approx([1000 * number for number in interval], rel=1e-3, abs=0.01)
        assert (new_score, new_alarm) == (pytest.approx(score, abs=1e-3), alarm and pytest.approx(alarm, abs=1e-3))
        assert new_odd == odd == ("false" if alarm is None else "true")


@pytest.mark.parametrize(("linking", "prior_sd"), [("mean-sigma", "0.5"), ("fixed", "0"), ("fixed", "0.5")])
def test_the_unit_of_the_anchors_is_that_of_the_scale(
    published: Database, run: Run, linking: str, prior_sd: str
) -> None:
    def calibrated() -> list[dict[Any, Any]]:
        forget(published)
        settings = ("--mirt-linking", linking, "--mirt-prior-a-sdlog", prior_sd)
        again(published, run, "calibrate-irt-weekly", 0, *settings)
        return found(published, "calibrate-irt-weekly")

    items, abilities = calibrated()
    unit = 1.5
    anchors = published(
        """UPDATE question SET meta = jsonb_set(jsonb_set(meta,
        '{irt,a}', to_jsonb((meta #>> '{irt,a}')::float / %s)), '{irt,b}', to_jsonb((meta #>> '{irt,b}')::float * %s))
        WHERE meta -> 'tags' ? 'anchor' RETURNING id""",
        unit,
        unit,
    )
    assert len(anchors) > 10
    new_items, new_abilities = calibrated()
    assert (new_items.keys(), new_abilities.keys()) == (items.keys(), abilities.keys())

    def scaled(value: float | None, by: float) -> Any:  # an anchor that is held has no standard error
        return value if value is None else pytest.approx(value * by, rel=1e-3, abs=1e-3)

    for name, (a, b, se_a, se_b) in items.items():
        wanted = [scaled(a, 1 / unit), scaled(b, unit), scaled(se_a, 1 / unit), scaled(se_b, unit)]
        assert new_items[name] == wanted, name
    for name, (theta, se, n_responses) in abilities.items():
        assert new_abilities[name] == [scaled(theta, unit), scaled(se, unit), n_responses], name


def test_the_unit_of_a_score_scales_sigma_and_keeps_chances(published: Database, run: Run) -> None:
    chances = []
    for factor in (1, 100):
        scale(published, "A_t", factor)
        published("UPDATE weekly_kpi SET kpis = kpis - 'P' - 'sigma'")
        again(published, run, "fit-bayesian-growth", 0, "--brms-score-source", "A_t")
        chances.append(found(published, "fit-bayesian-growth")[0])
    assert len(chances[0]) > 200
    for user, (p, sigma) in chances[0].items():
        assert chances[1][user] == pytest.approx([p, 100 * sigma], rel=1e-6), user


def scale(database: Database, key: str, factor: float) -> None:
    database(
        f"UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object('{key}', (kpis ->> '{key}')::float * {factor})"
        f" WHERE kpis ? '{key}'"
    )


# ---- KPIs: a definition and no estimate, so that equal is equal


def kpis(database: Database, run: Run, weeks: int = 0) -> dict[tuple[str, date], dict[str, float]]:
    """Every user's KPIs of the last four weeks, computed anew."""
    database("TRUNCATE weekly_kpi")
    again(database, run, "compute-weekly-kpis", weeks, "--kpi-lookback-weeks", "4")
    return {
        (user, week): {key: value for key, value in kpi.items() if key in KPI_KEYS}
        for user, week, kpi in database("SELECT user_id, week_start, kpis FROM weekly_kpi")
    }


@pytest.fixture(scope="module")
def unchanged_kpis(
    postgres: Postgres, simulated_template: str, services: dict[str, RService]
) -> dict[tuple[str, date], dict[str, float]]:
    """The KPIs of the database that each of the tests below changes."""
    (found,) = (
        kpis(database, partial(run_with, services)) for database in copy_of(postgres, simulated_template, "kpis")
    )
    assert len(found) > 1000
    return found


@pytest.mark.parametrize("changed", CHANGES, indirect=True)
def test_kpis_are_the_same_with(
    changed: Changed, run: Run, unchanged_kpis: dict[tuple[str, date], dict[str, float]]
) -> None:
    left_out = {"learner-000007"} if changed.change == "one user removed" else set()
    new = kpis(changed.database, run, changed.weeks)
    assert len(new) == len(unchanged_kpis) * (2 if changed.twins else 1) - 4 * len(left_out)
    for (user, week), kpi in unchanged_kpis.items():
        if user not in left_out:
            other = new[changed.renamed.get(user, user), week + timedelta(weeks=changed.weeks)]
            equal_kpis(other, kpi, (user, week))


def equal_kpis(one: dict[str, float], other: dict[str, float], whose: tuple[str, date]) -> None:
    assert same([one.get(key) for key in KPI_KEYS], [other.get(key) for key in KPI_KEYS], 1e-9), whose


def test_kpis_are_the_same_with_times_in_another_unit(
    simulated: Database, run: Run, unchanged_kpis: dict[tuple[str, date], dict[str, float]]
) -> None:
    # E_t is a ratio of these times. A_t counts seconds, but those until completed_at: of rows without it, it would change.
    assert simulated("SELECT DISTINCT completed_at IS NULL FROM attempt") == [(False,)]
    assert sum("E_t" in kpi for kpi in unchanged_kpis.values()) > 1000
    simulated("UPDATE attempt SET response_time_ms = response_time_ms * 3")
    new = kpis(simulated, run)
    assert new.keys() == unchanged_kpis.keys()
    for whose, kpi in unchanged_kpis.items():
        equal_kpis(new[whose], kpi, whose)


# ---- Nothing from the future


def test_what_comes_after_the_date_changes_no_risk(simulated: Database, run: Run) -> None:
    as_of = simulated("SELECT (date_trunc('week', now()) - interval '4 weeks')::date::text")[0][0]
    risks = []
    for _ in range(2):
        assert run(simulated, "fit-survival-churn", "--as-of", as_of) == ExitCode.OK
        risks.append(simulated("SELECT user_id, risk FROM survival_risk ORDER BY user_id"))
        later = "UPDATE attempt SET correct = NOT correct, started_at = started_at + interval '3 days' WHERE started_at >= %s"
        assert simulated(later + " RETURNING id", as_of)
    assert risks[0] == risks[1]


# ---- The seed


# Numbers that chance decides. Cox's likelihood and EM leave it none, nor does a forecast that repeats the last value: of
# these, the seed that is published with the fit is all there is to see. It is that which the service's reply names.
DRAWN = {
    "cluster-segments": "SELECT metrics -> 'redrawn_rand_index' FROM cluster_fit_meta ORDER BY run_id DESC LIMIT 1",
    "fit-bayesian-growth": "SELECT user_id, kpis -> 'P' FROM weekly_kpi WHERE kpis ? 'P' ORDER BY 1",
}


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_a_seed_is_recorded_and_is_that_of_the_fit(published: Database, run: Run, stage: str) -> None:
    drawn = published(DRAWN[stage]) if stage in DRAWN else []
    again(published, run, stage, 0, "--seed", "7")
    fits, seed = TABLES[stage][0], "diagnostics" if stage == "fit-bayesian-growth" else "metrics"
    seeds = published(
        f"SELECT settings ->> 'SEED', {seed} ->> 'seed' FROM {fits} JOIN analytics_runs USING (run_id) ORDER BY started_at"
    )
    assert seeds == [("20251102", "20251102"), ("7", "7")]
    if stage in DRAWN:
        assert all(new != old for new, old in zip(published(DRAWN[stage]), drawn, strict=True))
