"""Every stage, through PostgreSQL and the services: numbers do not depend on row order, names of users, or the year."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from seed_analytics.demo import STAGES
from seed_analytics.errors import ExitCode
from support import Database

Rows = list[tuple[Any, ...]]
# What each stage publishes of users and items, in an order that does not depend on the names of users.
PUBLISHED = {
    "calibrate-irt-weekly": [
        "SELECT item_id, a, b, se_a, se_b FROM irt_item_params WHERE run_id = (SELECT max(run_id) FROM irt_fit_meta) ORDER BY item_id",
        "SELECT '', theta, se, n_responses FROM irt_abilities WHERE run_id = (SELECT max(run_id) FROM irt_fit_meta) ORDER BY 2, 3",
    ],
    "cluster-segments": ["SELECT segment_label, count(*) FROM user_segments GROUP BY 1 ORDER BY 1"],
    "fit-survival-churn": ["SELECT '', risk, rank_percentile, days_away FROM survival_risk ORDER BY 2, 4"],
    "forecast-prophet": [
        "SELECT '', v::float FROM prophet_fit_meta, jsonb_array_elements(forecast -> 'yhat') WITH ORDINALITY AS e (v, place)"
        " WHERE run_id = (SELECT max(run_id) FROM prophet_fit_meta) ORDER BY place"
    ],
    "fit-bayesian-growth": [
        "SELECT '', (kpis ->> 'P')::float, (kpis ->> 'sigma')::float FROM weekly_kpi WHERE kpis ? 'P' ORDER BY 2, 3"
    ],
}
WEEKS_LATER = -52  # backwards, since rows after now are not read


def shuffle(database: Database) -> int:
    database("CREATE TEMP TABLE shuffled AS SELECT * FROM attempt ORDER BY md5(id::text)")
    database("TRUNCATE attempt")
    database("INSERT INTO attempt SELECT * FROM shuffled")
    return 0


def rename(database: Database) -> int:
    database("UPDATE attempt SET student_id = md5(student_id)")
    database("UPDATE weekly_kpi SET user_id = md5(user_id)")
    database("UPDATE features_topic_daily SET user_id = md5(user_id)")
    return 0


def shift(database: Database) -> int:
    database(
        f"UPDATE attempt SET started_at = started_at + interval '{WEEKS_LATER} weeks', completed_at = completed_at + interval '{WEEKS_LATER} weeks'"
    )
    for table, day in (("weekly_kpi", "week_start"), ("features_topic_daily", "date")):
        # by way of the far past, so that no row meets its neighbour's old key
        for weeks in (-5000, 5000 + WEEKS_LATER):
            database(f"UPDATE {table} SET {day} = {day} + {7 * weeks}")
    return WEEKS_LATER


CHANGES = {"shuffled rows": shuffle, "renamed users": rename, "dates shifted by weeks": shift}


@pytest.fixture(scope="module")
def before() -> dict[str, list[Rows]]:
    """What a stage published of the data as they were simulated; filled by the first test of each stage."""
    return {}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_publishes_the_same_of(
    simulated: Database, run: Callable[..., int], before: dict[str, list[Rows]], stage: str, change: str
) -> None:
    monday = date.fromisoformat(simulated("SELECT date_trunc('week', now())::date::text")[0][0])
    if stage not in before:
        assert run(simulated, stage, "--as-of", monday.isoformat()) == ExitCode.OK
        before[stage] = [simulated(query) for query in PUBLISHED[stage]]
        simulated("UPDATE weekly_kpi SET kpis = kpis - 'P' - 'sigma' - 'S'")
        simulated("TRUNCATE user_segments, cluster_fit_meta, irt_fit_meta, prophet_fit_meta CASCADE")
    as_of = monday + timedelta(weeks=CHANGES[change](simulated))
    assert run(simulated, stage, "--as-of", as_of.isoformat()) == ExitCode.OK
    for query, expected in zip(PUBLISHED[stage], before[stage], strict=True):
        found = simulated(query)
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert one[0] == other[0]
            assert list(one[1:]) == pytest.approx(list(other[1:]), rel=1e-6, abs=1e-6)


def test_what_comes_after_the_date_changes_no_risk(simulated: Database, run: Callable[..., int]) -> None:
    as_of = simulated("SELECT (date_trunc('week', now()) - interval '4 weeks')::date::text")[0][0]
    published = []
    for _ in range(2):
        assert run(simulated, "fit-survival-churn", "--as-of", as_of) == ExitCode.OK
        published.append(simulated("SELECT user_id, risk FROM survival_risk ORDER BY user_id"))
        later = "UPDATE attempt SET correct = NOT correct, started_at = started_at + interval '3 days' WHERE started_at >= %s"
        assert simulated(later + " RETURNING id", as_of)
    assert published[0] == published[1]
