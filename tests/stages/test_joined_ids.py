"""The stages that read the log stop where its learners are nobody that the platform's other tables know."""

from __future__ import annotations

import pytest
from seed_analytics.errors import ExitCode
from seed_analytics.simulate import simulate
from support import Database, invoke


def run(database: Database, stage: str, **env: str) -> int:
    return invoke(stage, env={"DATABASE_URL": database.url} | env)


@pytest.mark.parametrize(("made", "set_to"), [("same", "md5-uuid"), ("md5-uuid", "same")])
@pytest.mark.parametrize(
    "stage", ["compute-weekly-kpis", "calibrate-irt-weekly", "fit-survival-churn", "fit-bayesian-growth"]
)
def test_wrong_form_of_ids_stops_a_stage_which_names_the_right_one(
    database: Database, stage: str, made: str, set_to: str
) -> None:
    simulate(database.conn, learners=20, weeks=4, student_id_form=made)
    assert run(database, stage, ATTEMPT_STUDENT_ID_FORM=set_to) == ExitCode.INPUT
    [(status, reason)] = database.runs(stage)
    assert status == "failed"
    assert f"With ATTEMPT_STUDENT_ID_FORM={made} it would be 100%: set that." in reason
    assert database("SELECT count(*) FROM weekly_kpi") == [(0,)]


def test_share_that_must_join_is_a_setting_of_the_stages(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("DELETE FROM features_topic_daily WHERE user_id > 'learner-000010'")
    assert run(database, "compute-weekly-kpis", MIN_JOIN_SHARE="0.51") == ExitCode.INPUT
    assert run(database, "compute-weekly-kpis", MIN_JOIN_SHARE="0.5") == ExitCode.OK


def test_new_platform_gets_its_first_kpis(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("TRUNCATE features_topic_daily")
    assert run(database, "compute-weekly-kpis") == ExitCode.OK
    assert database("SELECT count(DISTINCT user_id) FROM weekly_kpi") == [(20,)]


def test_new_term_s_learners_get_kpis_where_nothing_else_could_know_them(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("TRUNCATE features_topic_daily; INSERT INTO weekly_kpi VALUES ('last-term', '2020-01-06')")
    assert run(database, "compute-weekly-kpis") == ExitCode.OK
    assert database("SELECT count(DISTINCT user_id) FROM weekly_kpi") == [(21,)]


def test_kpis_under_md5_ids_are_not_begun_beside_those_of_the_learners(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4, student_id_form="md5-uuid")
    database("INSERT INTO weekly_kpi SELECT user_id, '2020-01-06' FROM simulated_truth.learners")
    database("TRUNCATE features_topic_daily")
    assert run(database, "compute-weekly-kpis") == ExitCode.INPUT
    assert database("SELECT DISTINCT week_start::text FROM weekly_kpi") == [("2020-01-06",)]
