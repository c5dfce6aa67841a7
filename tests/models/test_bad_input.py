"""Data that no model should speak on: the verdict is given in words, and the last good numbers stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from seed_analytics.errors import ExitCode
from support import Database

Run = Callable[..., int]
# What each stage publishes, beside the keys P, sigma and S of weekly_kpi.
TABLES = {
    "calibrate-irt-weekly": ("irt_fit_meta", "irt_item_params", "irt_abilities"),
    "cluster-segments": ("cluster_fit_meta", "user_segments"),
    "fit-survival-churn": ("survival_fit_meta", "survival_risk"),
    "forecast-prophet": ("prophet_fit_meta", "anomalies"),
    "fit-bayesian-growth": ("brms_fit_meta",),
}
KPIS = "SELECT user_id, week_start, kpis FROM weekly_kpi ORDER BY 1, 2"
THIS_WEEK = "date_trunc('week', now())"

REFUSED = {
    # IRT
    "items in two halves that no learner connects": (
        "calibrate-irt-weekly",
        "UPDATE attempt SET item_id = item_id || '-b' WHERE right(md5(student_id), 1) < '8'",
        ("rejected", "no learner connects"),
    ),
    "all answers right": (
        "calibrate-irt-weekly",
        "UPDATE attempt SET correct = true WHERE correct IS NOT NULL",
        ("rejected", "all answers are right"),
    ),
    "answers of a few learners": (
        "calibrate-irt-weekly",
        "DELETE FROM attempt WHERE student_id > 'learner-000025'",
        ("skipped", "learners answered"),
    ),
    # segments
    "learners who are all alike": (
        "cluster-segments",
        """UPDATE weekly_kpi SET kpis = kpis || '{"I_t": 0, "E_t": 0, "R_t": 0, "A_t": 0.5, "accuracy": 0.5, "sessions": 4}'""",
        ("rejected", "no usable feature"),
    ),
    # survival
    "nobody who came back": (
        "fit-survival-churn",
        "DELETE FROM attempt AS a USING (SELECT student_id, min(started_at::date) AS day FROM attempt GROUP BY 1) AS first"
        " WHERE a.student_id = first.student_id AND a.started_at::date > first.day",
        ("skipped", "returns"),
    ),
    "visits of one learner": (
        "fit-survival-churn",
        "DELETE FROM attempt WHERE student_id <> 'learner-000007'",
        ("rejected", "All visits are of one user"),
    ),
    # forecast
    "seven weeks": (
        "forecast-prophet",
        f"DELETE FROM weekly_kpi WHERE week_start < {THIS_WEEK} - interval '7 weeks'",
        ("skipped", "has 8 complete weeks"),
    ),
    # growth
    "scores of one learner": (
        "fit-bayesian-growth",
        "DELETE FROM attempt WHERE student_id <> 'learner-000007'",
        ("skipped", "learners"),
    ),
    "scores of one week": (
        "fit-bayesian-growth",
        f"DELETE FROM attempt WHERE started_at < {THIS_WEEK} - interval '7 days'",
        ("skipped", "week"),
    ),
    "one score for all": (
        "fit-bayesian-growth",
        "UPDATE attempt SET correct = true WHERE correct IS NOT NULL",
        ("rejected", "Every score is 1"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_last_good_numbers_stay_after(published: Database, run: Run, name: str) -> None:
    stage, damage, (status, words) = REFUSED[name]
    published(damage)
    before = numbers(published, stage)
    assert all(rows for rows in before.values())
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    ended = run(published, stage, "--as-of", monday)
    assert ended == (ExitCode.OK if status == "skipped" else ExitCode.REJECTED)
    [*_, (found, reason)] = published.runs(stage)
    assert (found, words in reason) == (status, True), reason
    assert numbers(published, stage) == before


def numbers(database: Database, stage: str) -> dict[str, list[tuple[Any, ...]]]:
    tables = {name: database(f"SELECT t::text FROM {name} AS t ORDER BY 1") for name in TABLES[stage]}
    if not tables.get("anomalies", True):
        del tables["anomalies"]  # there may be none
    return tables | {"weekly_kpi": database(KPIS)}


def in_week(weeks_ago: int, value: float) -> str:
    return (
        f"""UPDATE weekly_kpi SET kpis = kpis || '{{"I_t": {value}}}'"""
        f" WHERE week_start = ({THIS_WEEK} - interval '{weeks_ago} weeks')::date"
    )


FLAGGED = {
    "a constant metric": ("""UPDATE weekly_kpi SET kpis = kpis || '{"I_t": 0.25}'""", "The metric is constant"),
    "one enormous week": (in_week(5, 1e6), "left out of the fit"),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_a_forecast_is_published_and_says_of(published: Database, run: Run, name: str) -> None:
    damage, words = FLAGGED[name]
    published(damage)
    assert run(published, "forecast-prophet") == ExitCode.OK
    status, reason = published.runs("forecast-prophet")[-1]
    assert (status, words in reason) == ("succeeded", True), reason


def test_an_enormous_week_is_an_anomaly_and_bends_no_forecast(published: Database, run: Run) -> None:
    published(in_week(5, 1e6))
    assert run(published, "forecast-prophet") == ExitCode.OK
    week = published(f"SELECT ({THIS_WEEK} - interval '5 weeks')::date")[0][0]
    assert (week,) in published("SELECT week_start FROM anomalies")
    [[forecast]] = published("SELECT forecast -> 'yhat' FROM prophet_fit_meta ORDER BY fitted_at DESC LIMIT 1")
    assert all(abs(yhat) < 1 for yhat in forecast)


def test_a_week_without_rows_is_a_gap_and_not_judged(published: Database, run: Run) -> None:
    week = published(f"SELECT ({THIS_WEEK} - interval '4 weeks')::date::text")[0][0]
    published("DELETE FROM weekly_kpi WHERE week_start = %s", week)
    published("TRUNCATE anomalies")
    assert run(published, "forecast-prophet") == ExitCode.OK
    [[history]] = published("SELECT history FROM prophet_fit_meta ORDER BY fitted_at DESC LIMIT 1")
    judged = dict(zip(history["week_start"], zip(history["value"], history["score"], strict=True), strict=True))
    assert judged.get(week, (None, None)) == (None, None)
    assert sum(value is not None for value, _ in judged.values()) == 11
    assert published("SELECT count(*) FROM anomalies WHERE week_start = %s", week) == [(0,)]


@pytest.mark.parametrize("sdlog", ["0.5", "0"], ids=["with a prior", "without"])
def test_an_item_that_abler_learners_get_wrong_is_said(published: Database, run: Run, sdlog: str) -> None:
    [[item]] = published(
        "SELECT item_id FROM irt_item_params WHERE a > 1 AND status = 'fitted' AND b BETWEEN -1 AND 1"
        " ORDER BY n_responses DESC LIMIT 1"
    )
    published("UPDATE attempt SET correct = NOT correct WHERE item_id = %s", item)
    assert run(published, "calibrate-irt-weekly", "--mirt-prior-a-sdlog", sdlog) == ExitCode.OK
    if sdlog == "0":  # left out, with the reason
        reasons = published(
            "SELECT reason FROM irt_item_params WHERE item_id = %s AND a IS NULL"
            " AND run_id = (SELECT max(run_id) FROM irt_fit_meta)",
            item,
        )
        assert len(reasons) == 1
        assert "check its key" in reasons[0][0]
    else:
        reason = published.runs("calibrate-irt-weekly")[-1][1]
        assert "check their keys" in reason
        assert item in reason
