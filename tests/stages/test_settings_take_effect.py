"""Each setting that chooses what is read, fitted or published changes just that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import structlog
from seed_analytics import db, settings
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres
from seed_analytics.log_view import open_log
from seed_analytics.run import Run as StageRun
from seed_analytics.stages import load
from support import Database, copy_of, invoke

Run = Callable[..., int]
Extract = Callable[..., Any]


@pytest.fixture(scope="module")
def log(postgres: Postgres, simulated_template: str) -> Iterator[Database]:
    """Simulated learners and their KPIs, to read only."""
    yield from copy_of(postgres, simulated_template, "settings")


@pytest.fixture
def extract(log: Database, monkeypatch: pytest.MonkeyPatch) -> Extract:
    """What a stage reads with some variables set."""

    def extracted(stage: str, **env: str) -> Any:
        for name, value in ({"DATABASE_URL": log.url} | env).items():
            monkeypatch.setenv(name, value)
        found, as_of = settings.load(settings.STAGES[stage].settings), db.present(log.conn)
        open_log(log.conn, as_of)
        run = StageRun(stage, "run", found, log.conn, as_of, structlog.get_logger())
        return load(stage).extract(run)

    return extracted


# -- what is read ------------------------------------------------------------------------------------------------------


def test_mirt_max_obs_bounds_the_answers(extract: Extract) -> None:
    assert len(extract("calibrate-irt-weekly", MIRT_MAX_OBS="5000")["responses"]["correct"]) == 5000


def test_mirt_topic_id_leaves_the_items_of_one_topic(extract: Extract, log: Database) -> None:
    read = extract("calibrate-irt-weekly", MIRT_TOPIC_ID="topic-03")
    items = set(read["responses"]["item_id"])
    assert set(read["anchors"]["item_id"]) < items
    assert items == {item for (item,) in log("SELECT id FROM question WHERE topic_id = 'topic-03'")}


def test_mirt_lookback_days_leaves_the_newer_first_answers(extract: Extract) -> None:
    every, newer = (
        set(zip(found["user_id"], found["item_id"], strict=True))
        for found in (extract("calibrate-irt-weekly", MIRT_LOOKBACK_DAYS=days)["responses"] for days in ("100", "40"))
    )
    assert set() < newer < every


def test_survival_lookback_days_bounds_the_visits(extract: Extract) -> None:
    visits = extract("fit-survival-churn", SURVIVAL_LOOKBACK_DAYS="30")
    assert {visits["last_day"][0] - day for day in visits["day"]} == set(range(30))


def test_brms_lookback_weeks_bounds_the_scores(extract: Extract) -> None:
    read = extract("fit-bayesian-growth", BRMS_LOOKBACK_WEEKS="5")
    assert (read["scaling"].span, max(read["students"]["n"])) == (4, 5)


def test_cluster_features_are_those_named(extract: Extract) -> None:
    assert list(extract("cluster-segments", CLUSTER_FEATURES="sessions,accuracy")["features"]) == [
        "sessions",
        "accuracy",
    ]


def test_cluster_lookback_weeks_bounds_the_average(extract: Extract, log: Database) -> None:
    read = extract("cluster-segments", CLUSTER_LOOKBACK_WEEKS="1", CLUSTER_FEATURES="sessions")
    assert list(zip(read["user_id"], read["features"]["sessions"], strict=True)) == log(
        """SELECT user_id, (kpis ->> 'sessions')::float FROM weekly_kpi
        WHERE week_start = (date_trunc('week', now()) - interval '1 week')::date ORDER BY user_id"""
    )


# -- what is fitted and published --------------------------------------------------------------------------------------


def test_cluster_n_clusters_is_the_number_of_segments(simulated: Database) -> None:
    assert invoke("cluster-segments", env={"DATABASE_URL": simulated.url, "CLUSTER_N_CLUSTERS": "3"}) == ExitCode.OK
    assert simulated("SELECT count(DISTINCT cluster_id), count(DISTINCT segment_label) FROM user_segments") == [(3, 3)]


def test_mirt_model_1pl_gives_items_one_slope(simulated: Database, run: Run) -> None:
    assert run(simulated, "calibrate-irt-weekly", MIRT_MODEL="1PL") == ExitCode.OK
    ((model, slopes),) = simulated(
        """SELECT model, count(DISTINCT round(a::numeric, 6)) FROM irt_fit_meta JOIN irt_item_params USING (run_id)
        WHERE a IS NOT NULL GROUP BY model"""
    )
    assert (model, slopes) == ("1PL", 1)


def test_mirt_linking_fixed_keeps_the_anchors_where_they_were(simulated: Database, run: Run) -> None:
    moved = """SELECT max(abs(p.b - (q.meta #>> '{irt,b}')::float)) FROM irt_item_params AS p
        JOIN question AS q ON q.id = p.item_id
        WHERE q.meta -> 'tags' ? 'anchor' AND p.run_id = (SELECT max(run_id) FROM irt_fit_meta)"""
    found = []
    for linking in ("mean-sigma", "fixed"):
        assert run(simulated, "calibrate-irt-weekly", MIRT_LINKING=linking) == ExitCode.OK
        found += simulated(moved)[0]
    assert found[0] > 0.01
    assert found[1] == pytest.approx(0, abs=1e-9)


def test_survival_update_kpi_false_leaves_kpis_alone(simulated: Database, run: Run) -> None:
    assert run(simulated, "fit-survival-churn", SURVIVAL_UPDATE_KPI="false") == ExitCode.OK
    assert simulated("SELECT count(*) FROM weekly_kpi WHERE kpis ? 'S'") == [(0,)]
    assert simulated("SELECT count(*) > 0 FROM survival_risk") == [(True,)]


def test_survival_event_threshold_days_is_when_a_learner_is_lost(simulated: Database, run: Run) -> None:
    assert run(simulated, "fit-survival-churn", SURVIVAL_EVENT_THRESHOLD_DAYS="5") == ExitCode.OK
    assert simulated("SELECT days_away >= 5, bool_and(risk = 1) FROM survival_risk GROUP BY 1 ORDER BY 1") == [
        (False, False),
        (True, True),
    ]


def test_brms_update_kpi_false_leaves_kpis_alone(simulated: Database, run: Run) -> None:
    assert run(simulated, "fit-bayesian-growth", BRMS_UPDATE_KPI="false") == ExitCode.OK
    assert simulated("SELECT count(*) FROM weekly_kpi WHERE kpis ?| ARRAY['P', 'sigma']") == [(0,)]
    assert simulated("SELECT count(*) FROM brms_fit_meta") == [(1,)]


def test_brms_score_scale_standing_is_blind_to_how_hard_a_week_was(simulated: Database, run: Run) -> None:
    chances: dict[str, list[Any]] = {"raw": [], "standing": []}
    for _ in range(2):
        for scale, found in chances.items():
            assert run(simulated, "fit-bayesian-growth", BRMS_SCORE_SOURCE="A_t", BRMS_SCORE_SCALE=scale) == ExitCode.OK
            found.append(
                simulated("SELECT user_id, kpis -> 'P', kpis -> 'sigma' FROM weekly_kpi WHERE kpis ? 'P' ORDER BY 1")
            )
        simulated(
            """UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object('A_t', (kpis ->> 'A_t')::float / 2)
            WHERE kpis ? 'A_t' AND week_start = date_trunc('week', now()) - interval '2 weeks'"""
        )
    assert chances["standing"][0] == chances["standing"][1]
    assert chances["raw"][0] != chances["raw"][1]


def test_metrics_default_target_is_the_goal_of_p(simulated: Database, run: Run) -> None:
    chances = []
    for target in ("0.3", "0.9"):
        assert run(simulated, "fit-bayesian-growth", METRICS_DEFAULT_TARGET=target) == ExitCode.OK
        chances += simulated("SELECT avg((kpis ->> 'P')::float) FROM weekly_kpi WHERE kpis ? 'P'")[0]
    assert chances[0] > 0.8
    assert chances[1] < 0.3


def test_brms_horizon_weeks_is_how_far_the_bands_reach(simulated: Database, run: Run) -> None:
    assert run(simulated, "fit-bayesian-growth", BRMS_HORIZON_WEEKS="7") == ExitCode.OK
    ((examples,),) = simulated("SELECT examples FROM brms_fit_meta")
    assert {example["band_week"][-1] for example in examples} == {11 + 7}


def test_prophet_metrics_are_forecast_for_prophet_forecast_weeks(simulated: Database, run: Run) -> None:
    env = {"PROPHET_METRICS": "A_t,R_t", "PROPHET_FORECAST_WEEKS": "6"}
    assert run(simulated, "forecast-prophet", **env) == ExitCode.OK
    assert simulated(
        "SELECT metric, jsonb_array_length(forecast -> 'week_start') FROM prophet_fit_meta ORDER BY metric"
    ) == [("A_t", 6), ("R_t", 6)]


def test_prophet_anomaly_threshold_is_what_counts_as_odd(simulated: Database, run: Run) -> None:
    ((monday,),) = simulated("SELECT date_trunc('week', now())::date")
    odd: date = monday - timedelta(weeks=3)
    simulated("UPDATE weekly_kpi SET kpis = kpis || '{\"I_t\": -0.2}' WHERE week_start = %s AND kpis ? 'I_t'", odd)
    found = []
    for threshold in ("6", "1"):
        assert run(simulated, "forecast-prophet", PROPHET_ANOMALY_THRESHOLD=threshold) == ExitCode.OK
        found.append({week for (week,) in simulated("SELECT week_start FROM anomalies")})
    assert found[0] < found[1]
    assert odd in found[1]
