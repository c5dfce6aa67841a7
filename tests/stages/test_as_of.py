"""--as-of: a run of the past neither learns from what came after it nor spoils it."""

from __future__ import annotations

from typing import Any

from seed_analytics.errors import ExitCode
from support import Database, invoke


def run(database: Database, stage: str, *flags: str) -> None:
    assert invoke(stage, *flags, env={"DATABASE_URL": database.url}) == ExitCode.OK, database.runs(stage)


def day(database: Database, monday_and: str) -> str:
    ((found,),) = database(f"SELECT (date_trunc('week', now()) + interval '{monday_and}')::date::text")
    return str(found)


def segments(database: Database) -> list[tuple[Any, ...]]:
    return database("SELECT user_id, segment_label FROM user_segments ORDER BY 1")


def test_segments_of_the_past_do_not_take_their_names_from_later_runs(simulated: Database) -> None:
    past = day(simulated, "-3 weeks")
    run(simulated, "cluster-segments", "--as-of", past)
    first = segments(simulated)
    run(simulated, "cluster-segments")
    simulated(
        "UPDATE cluster_fit_meta SET centers = regexp_replace(centers::text, '\"label\": \"', '\\&later-', 'g')::jsonb"
    )
    run(simulated, "cluster-segments", "--as-of", past)
    assert segments(simulated) == first


def test_run_of_today_takes_back_what_a_run_of_the_past_published(simulated: Database) -> None:
    run(simulated, "cluster-segments")
    today = segments(simulated)
    run(simulated, "cluster-segments", "--as-of", day(simulated, "-4 weeks"))
    assert segments(simulated) != today
    run(simulated, "cluster-segments")
    assert segments(simulated) == today


def test_half_of_a_week_that_is_over_is_not_its_kpis(simulated: Database) -> None:
    query = "SELECT user_id, week_start, kpis FROM weekly_kpi ORDER BY 1, 2"
    before = simulated(query)
    run(simulated, "compute-weekly-kpis", "--as-of", day(simulated, "-12 days"))
    assert simulated(query) == before
    [(status, _)] = simulated.runs("compute-weekly-kpis")[1:]
    assert status == "succeeded"
