"""Data that no model should speak on: the verdict is given in words, and the last good numbers stay."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from seed_analytics import stages
from seed_analytics.errors import ExitCode
from seed_analytics.settings import IrtSettings
from seed_analytics.stages import (
    calibrate_irt_weekly,
    cluster_segments,
    fit_bayesian_growth,
    fit_survival_churn,
    forecast_prophet,
    gates,
)
from support import TABLES, Database

Run = Callable[..., int]
KPIS = "SELECT user_id, week_start, kpis FROM weekly_kpi ORDER BY 1, 2"
THIS_WEEK = "date_trunc('week', now())"


def hashed(name: str, learners: str = "user_id") -> str:
    """SQL: a number between 0 and 1 that is a learner's own and has nothing to do with any other."""
    return f"('x' || left(md5({learners} || '{name}'), 7))::bit(28)::int / 2^28"


ALL_KPIS = ("I_t", "E_t", "R_t", "A_t", "accuracy", "sessions", "mean_gap", "attempts")
MIN_ANSWERS = IrtSettings.model_fields["mirt_min_answers"].default
ANCHORS = "UPDATE question SET meta = jsonb_set(meta, '{irt,b}', to_jsonb(%d * (meta #>> '{irt,b}')::float)) WHERE meta ? 'irt'"
CONTINUUM = f"below {gates.STRUCTURE_MIN}: the learners form one continuum more than groups"
# Patterns of the whole cause: what there is too little of, and that there was enough of the rest.
REFUSED = {
    # IRT
    "anchors that moved against each other": (
        "calibrate-irt-weekly",
        ANCHORS % -1,
        ("rejected", "moved against each other"),
    ),
    "anchors in another unit": ("calibrate-irt-weekly", ANCHORS % 5, ("rejected", "another unit")),
    "items of a few answers": (
        "calibrate-irt-weekly",
        "DELETE FROM attempt AS a USING ("
        "  SELECT item_id, student_id, row_number() OVER (PARTITION BY item_id ORDER BY student_id) AS place"
        "  FROM (SELECT DISTINCT item_id, student_id FROM attempt) AS answers"
        f") AS r WHERE a.item_id = r.item_id AND a.student_id = r.student_id AND r.place >= {MIN_ANSWERS}",
        ("rejected", f"0 items can be calibrated.* answers, fewer than the {MIN_ANSWERS} asked for"),
    ),
    "items in two halves that no learner connects": (
        "calibrate-irt-weekly",
        "UPDATE attempt SET item_id = item_id || '-b' WHERE right(md5(student_id), 1) < '8'",
        ("rejected", "items fall into 2 groups that no learner connects"),
    ),
    "all answers right": (
        "calibrate-irt-weekly",
        "UPDATE attempt SET correct = true WHERE correct IS NOT NULL",
        ("rejected", "0 items can be calibrated.*: all answers are right"),
    ),
    "answers of a few learners": (
        "calibrate-irt-weekly",
        "DELETE FROM attempt WHERE student_id > 'learner-000025'",
        ("skipped", r"^25 learners answered \d{3} items"),
    ),
    # segments
    "learners who are all alike": (
        "cluster-segments",
        """UPDATE weekly_kpi SET kpis = kpis || '{"I_t": 0, "E_t": 0, "R_t": 0, "A_t": 0.5, "accuracy": 0.5, "sessions": 4}'""",
        ("rejected", r"no usable feature: engagement is constant \(0\.5\).* sessions is constant \(4\)"),
    ),
    "learners without structure": (
        "cluster-segments",
        "UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object("
        + ", ".join(f"'{kpi}', {hashed(kpi)}" for kpi in ALL_KPIS)
        + ")",
        (
            "rejected",
            "^Other seeds give other segments: .*; Learners drawn anew give other segments: "
            f".*; The split has a silhouette of .*, {CONTINUUM}",
        ),
    ),
    # survival
    "nobody who came back": (
        "fit-survival-churn",
        "DELETE FROM attempt AS a USING (SELECT student_id, min(started_at::date) AS day FROM attempt GROUP BY 1) AS first"
        " WHERE a.student_id = first.student_id AND a.started_at::date > first.day",
        ("skipped", "^0 returns in 90 days"),
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
        ("skipped", "^No metric of I_t has 8 complete weeks"),
    ),
    # growth
    "scores of one learner": (
        "fit-bayesian-growth",
        "DELETE FROM attempt WHERE student_id <> 'learner-000007'",
        ("skipped", r"^Learners with scores: 1, weeks with scores: ([3-9]|\d\d);"),
    ),
    "scores of one week": (
        "fit-bayesian-growth",
        f"DELETE FROM attempt WHERE started_at < {THIS_WEEK} - interval '7 days'",
        ("skipped", r"^Learners with scores: \d{3}, weeks with scores: 1;"),
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
    assert found == status
    assert re.search(words, reason), reason
    assert numbers(published, stage) == before


def ahead(fit: dict[str, Any], **columns: list[Any]) -> dict[str, Any]:
    return fit | {"forecast": fit["forecast"] | columns}


# What no data provoke reliably: the reply of a real fit with the diagnosis in it.
DIAGNOSED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "EM that has not converged": (
        "calibrate-irt-weekly",
        lambda fit: fit | {"converged": False},
        "EM did not converge",
    ),
    "answers that do not determine the items": (
        "calibrate-irt-weekly",
        lambda fit: fit | {"determined": False},
        "not positive definite",
    ),
    "abilities that answers hardly tell apart": (
        "calibrate-irt-weekly",
        lambda fit: fit | {"fit": fit["fit"] | {"reliability": gates.RELIABILITY_MIN / 2}},
        "hardly tell learners apart",
    ),
    "segments that depend on the seed": (
        "cluster-segments",
        lambda fit: fit | {"segments": replace(fit["segments"], adjusted_rand_index=gates.STABILITY_MIN / 2)},
        "Other seeds give other segments",
    ),
    "separation": (
        "fit-survival-churn",
        lambda fit: fit | {"separated": ["accuracy_28d"]},
        "decides alone who comes back",
    ),
    "an S that is too bold on later weeks": (
        "fit-survival-churn",
        lambda fit: fit | {"holdout": fit["holdout"] | {"calibration_slope": gates.CALIBRATION_SLOPE[0] / 2}},
        "S is not calibrated",
    ),
    "a forecast without values": (
        "forecast-prophet",
        lambda fit: fit | {"fits": [ahead(one, yhat=[None] * 4) for one in fit["fits"]]},
        "weeks without a value",
    ),
    "an interval that is upside down": (
        "forecast-prophet",
        lambda fit: fit | {"fits": [ahead(one, lower=[9.0] * 4, upper=[8.0] * 4) for one in fit["fits"]]},
        "upside down",
    ),
    "chains that disagree": (
        "fit-bayesian-growth",
        lambda fit: fit | {"diagnostics": fit["diagnostics"] | {"max_rhat": 1.9}},
        "The chains disagree",
    ),
    "few effective draws": (
        "fit-bayesian-growth",
        lambda fit: fit | {"diagnostics": fit["diagnostics"] | {"min_ess_tail": gates.ESS_MIN / 2}},
        "Too few effective draws",
    ),
    "divergent transitions": (
        "fit-bayesian-growth",
        lambda fit: fit | {"diagnostics": fit["diagnostics"] | {"divergent": 1}},
        "1 divergent",
    ),
}


@pytest.mark.parametrize("name", DIAGNOSED)
def test_the_last_good_numbers_stay_after_a_fit_with(
    published: Database, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stage, diagnose, words = DIAGNOSED[name]
    real = stages.load(stage)
    monkeypatch.setattr(
        sys.modules[f"{stages.__name__}.{stage.replace('-', '_')}"],
        "STAGE",
        replace(real, fit=lambda run, data: diagnose(real.fit(run, data))),
    )
    before = numbers(published, stage)
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    assert run(published, stage, "--as-of", monday) == ExitCode.REJECTED
    status, reason = published.runs(stage)[-1]
    assert (status, words in reason) == ("rejected", True), reason
    assert numbers(published, stage) == before


@pytest.mark.parametrize(
    "disorder",
    [lambda column: column[::-1], lambda column: column[:1] + column],
    ids=["out of order", "twice"],
)
def test_the_last_forecast_stays_after_weeks_that_are(
    published: Database, run: Run, monkeypatch: pytest.MonkeyPatch, disorder: Callable[[list[Any]], list[Any]]
) -> None:
    # weekly_kpi and weeks.sql let no such weeks through: the real extract, with its weeks in disorder.
    real = forecast_prophet.STAGE

    def extract(run: Any) -> dict[str, Any]:
        data = real.extract(run)
        [weeks] = data["series"].values()
        return data | {"series": {"I_t": {name: disorder(column) for name, column in weeks.items()}}}

    monkeypatch.setattr(forecast_prophet, "STAGE", replace(real, extract=extract))
    before = numbers(published, real.name)
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    assert run(published, real.name, "--as-of", monday) == ExitCode.INTERNAL
    status, reason = published.runs(real.name)[-1]
    assert status == "failed"
    assert "weeks.week_start[1]: must be later than the week before" in reason
    assert numbers(published, real.name) == before


# Who stays: the n learners, items or weeks with the most answers in the look-back.
BUSIEST = (
    "DELETE FROM attempt WHERE {0} NOT IN (SELECT {0} FROM attempt"
    f" WHERE started_at BETWEEN {THIS_WEEK} - interval '56 days' AND {THIS_WEEK} AND correct IS NOT NULL"
    " GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {1})"
)
LEAST = {
    "IRT, learners": ("calibrate-irt-weekly", BUSIEST.format("student_id", "{0}"), calibrate_irt_weekly.MIN_LEARNERS),
    "IRT, items": (
        "calibrate-irt-weekly",
        BUSIEST.format("item_id", "{0}") + "; UPDATE question SET meta = meta - 'tags'",
        calibrate_irt_weekly.MIN_ITEMS,
    ),
    "IRT, anchors": (
        "calibrate-irt-weekly",
        "DELETE FROM attempt WHERE item_id IN"
        " (SELECT id FROM question WHERE meta -> 'tags' ? 'anchor' ORDER BY id OFFSET {0})",
        calibrate_irt_weekly.MIN_ANCHORS,
    ),
    "segments, learners": (
        "cluster-segments",
        "DELETE FROM weekly_kpi WHERE user_id NOT IN (SELECT user_id FROM weekly_kpi"
        f" WHERE week_start = ({THIS_WEEK} - interval '7 days')::date AND kpis ? 'A_t' ORDER BY 1 LIMIT {{0}})",
        cluster_segments.MIN_LEARNERS,
    ),
    "survival, returns": (  # each learner keeps two days: one return
        "fit-survival-churn",
        "WITH day AS (SELECT DISTINCT student_id, started_at::date AS day FROM attempt"
        f"  WHERE started_at BETWEEN {THIS_WEEK} - interval '80 days' AND {THIS_WEEK}),"
        " ranked AS (SELECT *, row_number() OVER (PARTITION BY student_id ORDER BY day) AS place FROM day),"
        " kept AS (SELECT student_id FROM ranked WHERE place = 2 ORDER BY 1 LIMIT {0})"
        " DELETE FROM attempt WHERE (student_id, started_at::date) NOT IN ("
        "  SELECT student_id, day FROM ranked JOIN kept USING (student_id) WHERE place <= 2)",
        fit_survival_churn.MIN_EVENTS,
    ),
    "forecast, weeks": (
        "forecast-prophet",
        f"DELETE FROM weekly_kpi WHERE week_start < {THIS_WEEK} - interval '{{0}} weeks'",
        forecast_prophet.MIN_WEEKS,
    ),
    "growth, learners": ("fit-bayesian-growth", BUSIEST.format("student_id", "{0}"), fit_bayesian_growth.MIN_LEARNERS),
    "growth, weeks": (
        "fit-bayesian-growth",
        f"DELETE FROM attempt WHERE started_at < {THIS_WEEK} - interval '{{0}} weeks'",
        fit_bayesian_growth.MIN_WEEKS,
    ),
}


@pytest.mark.parametrize("enough", [True, False], ids=["enough", "one less"])
@pytest.mark.parametrize("name", LEAST)
def test_a_stage_skips_below_its_least(published: Database, run: Run, name: str, enough: bool) -> None:
    stage, keep, least = LEAST[name]
    published(keep.format(least if enough else least - 1))
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    run(published, stage, "--as-of", monday)
    status, reason = published.runs(stage)[-1]
    assert (status == "skipped") is not enough, (status, reason)


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
    "a constant metric": (
        "forecast-prophet",
        """UPDATE weekly_kpi SET kpis = kpis || '{"I_t": 0.25}'""",
        "The metric is constant",
    ),
    "one enormous week": ("forecast-prophet", in_week(5, 1e6), "left out of the fit"),
    "more segments than distinct learners": (
        "cluster-segments --cluster-n-clusters 5",
        "UPDATE weekly_kpi SET kpis = kpis || CASE WHEN user_id < 'learner-000100'"
        """ THEN '{"I_t": 0.1, "E_t": 1, "R_t": 0, "A_t": 0.9, "accuracy": 0.9, "sessions": 9}'"""
        """ ELSE '{"I_t": -0.1, "E_t": 0, "R_t": 0, "A_t": 0.1, "accuracy": 0.3, "sessions": 1}' END::jsonb""",
        "5 clusters were asked for, but only 2 distinct learners are there",
    ),
    "learners along a line without gaps": (
        "cluster-segments",
        "UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object("
        + ", ".join(f"'{kpi}', {hashed('place')} + 2 * {hashed(kpi)}" for kpi in ALL_KPIS)
        + ")",
        CONTINUUM,
    ),
    "a feature that most learners lack": (
        "cluster-segments",
        "UPDATE weekly_kpi SET kpis = kpis - 'R_t' WHERE user_id < 'learner-000180'",
        "Left out recovery: missing for 60% of the learners",
    ),
    "a feature that repeats another": (
        "cluster-segments",
        """UPDATE weekly_kpi SET kpis = kpis || jsonb_build_object('sessions', 10 * (kpis ->> 'A_t')::float)""",
        "the same as",
    ),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_numbers_are_published_and_it_is_said_of(published: Database, run: Run, name: str) -> None:
    command, damage, words = FLAGGED[name]
    published(damage)
    assert run(published, *command.split()) == ExitCode.OK
    status, reason = published.runs(command.split()[0])[-1]
    assert (status, words in reason) == ("succeeded", True), reason


SAID: dict[str, tuple[Callable[[Any], Any], str]] = {
    "every visit was followed by another": (
        lambda fit: fit | {"warnings": ["Every visit was followed by another: nothing is censored."]},
        "nothing is censored",
    ),
    "hazards are not proportional": (
        lambda fit: fit | {"ph_test": {"term": ["accuracy_28d"], "chisq": [99.0], "df": [1], "p": [1e-9]}},
        "Hazards are not proportional for accuracy_28d",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_survival_is_published_and_it_is_said_that(
    published: Database, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    alter, words = SAID[name]
    real = fit_survival_churn.STAGE
    monkeypatch.setattr(fit_survival_churn, "STAGE", replace(real, fit=lambda run, data: alter(real.fit(run, data))))
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    assert run(published, "fit-survival-churn", "--as-of", monday) == ExitCode.OK
    status, reason = published.runs("fit-survival-churn")[-1]
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
    assert f"Without a value, and so not judged: {week}" in published.runs("forecast-prophet")[-1][1]


@pytest.mark.parametrize("sdlog", ["0.5", "0"], ids=["with a prior", "without"])
def test_an_item_that_abler_learners_get_wrong_is_said(published: Database, run: Run, sdlog: str) -> None:
    [[item]] = published(
        "SELECT item_id FROM irt_item_params WHERE a > 1 AND status = 'fitted' AND b BETWEEN -1 AND 1"
        " ORDER BY n_responses DESC LIMIT 1"
    )
    published("UPDATE attempt SET correct = NOT correct WHERE item_id = %s", item)
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    settings = ("--as-of", monday, "--mirt-prior-a-sdlog", sdlog, "--mirt-linking", "fixed")
    assert run(published, "calibrate-irt-weekly", *settings) == ExitCode.OK
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


ANSWERS = "UPDATE attempt SET correct = {} WHERE item_id = '{{0}}' AND correct IS NOT NULL"
LEFT_OUT = {  # flags, and damage by its reason: an item each
    "with a prior": (
        "",
        {
            "all answers are right": ANSWERS.format("true"),
            "all answers are wrong": ANSWERS.format("false"),
            # learners new to the item in the look-back
            f"{MIN_ANSWERS - 1} answers, fewer than the {MIN_ANSWERS} asked for": "DELETE FROM attempt"
            " WHERE item_id = '{0}' AND student_id NOT IN (SELECT student_id FROM attempt"
            "  WHERE item_id = '{0}' AND correct IS NOT NULL GROUP BY 1"
            f" HAVING min(started_at) > {THIS_WEEK} - interval '56 days' AND min(started_at) < {THIS_WEEK}"
            f" ORDER BY 1 LIMIT {MIN_ANSWERS - 1})",
        },
    ),
    "without": (  # a prior would keep a above 0
        "--mirt-linking fixed --mirt-prior-a-sdlog 0",
        {"is not above 0: abler learners answer it no better": ANSWERS.format("NOT correct")},
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_last_good_numbers_stay_of_items_that_are_left_out(published: Database, run: Run, name: str) -> None:
    flags, damages = LEFT_OUT[name]
    monday = published(f"SELECT {THIS_WEEK}::date::text")[0][0]
    command = ("calibrate-irt-weekly", "--irt-update-question-meta", "--as-of", monday)
    newest = "(SELECT max(run_id) FROM irt_fit_meta)"
    assert run(published, *command) == ExitCode.OK
    found = published(
        "SELECT id, meta -> 'irt' FROM question JOIN irt_item_params ON item_id = id::text"
        f" WHERE run_id = {newest} AND run_id = meta #>> '{{irt,version}}' AND a > 1 AND b BETWEEN -1 AND 1"
        " ORDER BY n_responses DESC LIMIT %s",
        len(damages),
    )
    history = "SELECT a, status, reason, t::text FROM irt_item_params AS t WHERE item_id = %s ORDER BY run_id"
    before = {item: published(history, item) for item, _ in found}
    for (item, _), damage in zip(found, damages.values(), strict=True):
        published(damage.format(item))
    assert run(published, *command, *flags.split()) == ExitCode.OK
    for (item, meta), words in zip(found, damages, strict=True):
        *older, (a, status, reason, _) = published(history, item)
        assert (a, status, words in reason) == (None, "excluded", True), reason
        assert older == before[item]
        assert published("SELECT meta -> 'irt' FROM question WHERE id = %s", item) == [(meta,)]
    assert str(found[0][0]) in published.runs("calibrate-irt-weekly")[-1][1]
    # The others' were written.
    assert published(f"SELECT count(*) > 100 FROM question WHERE meta #>> '{{irt,version}}' = {newest}") == [(True,)]
