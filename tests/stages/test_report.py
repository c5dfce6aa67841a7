"""The report from real databases: without tables, without rows, with rows, with hostile ones, with many."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import playwright.sync_api as playwright
import psycopg
import pytest
from psycopg.types.json import Jsonb
from report_page import Page
from seed_analytics import db
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres
from seed_analytics.report import render
from seed_analytics.settings import MODEL_STAGES, STAGES
from support import Database, invoke

NOW = datetime(2025, 11, 3, 7, 15, tzinfo=UTC)
SECTIONS = ("segments", "survival", "forecast", "growth", "items")
PREFIX = {
    "compute-weekly-kpis": "kpi",
    "calibrate-irt-weekly": "irt",
    "cluster-segments": "cluster",
    "fit-survival-churn": "survival",
    "forecast-prophet": "prophet",
    "fit-bayesian-growth": "brms",
}


def run_id(stage: str) -> str:
    return f"{PREFIX[stage]}-20251103-050000"


def insert(conn: psycopg.Connection[Any], table: str, **values: Any) -> None:
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    cells = [Jsonb(value) if isinstance(value, dict | list) else value for value in values.values()]
    conn.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", cells)


def fill_runs(conn: psycopg.Connection[Any], **changed: Any) -> None:
    """One good run a stage, two hours ago; `changed` replaces columns of all of them."""
    for stage in STAGES:
        row = {
            "run_id": run_id(stage),
            "stage": stage,
            "status": "succeeded",
            "reason": "The fit passed its gate.",
            "as_of": NOW - timedelta(hours=2),
            "rows_read": 53211,
            "rows_written": 501,
            "timings": {"extract": 0.42, "fit": 1.21, "gate": 0.0004, "publish": 0.2},
            "versions": {
                "seed_analytics": "0.1.0",
                "python": "3.11.2",
                "R": "4.2.2",
                "packages": {"survival": "3.5.3"},
            },
            "settings": {
                "SURVIVAL_EVENT_THRESHOLD_DAYS": "14",
                "BRMS_SCORE_SOURCE": "accuracy",
                "BRMS_HORIZON_WEEKS": "4",
            },
            "started_at": NOW - timedelta(hours=2),
            "finished_at": NOW - timedelta(hours=2) + timedelta(seconds=3),
        }
        insert(conn, "analytics_runs", **(row | changed))


def fill(
    conn: psycopg.Connection[Any], learners: int = 60, user: Callable[[int], str] = "learner-{:05}".format
) -> None:
    """Rows as the stages publish them, after one good night."""
    rng = np.random.default_rng(7)
    fill_runs(conn)
    fitted = NOW - timedelta(hours=2)
    _fill_items(conn, learners, user, rng, fitted)
    _fill_segments(conn, learners, user, rng, fitted)
    _fill_survival(conn, learners, user, rng, fitted)
    _fill_forecast(conn, rng, fitted)
    _fill_growth(conn, learners, user, rng, fitted)


def copy(conn: psycopg.Connection[Any], table: str, names: str, rows: Iterator[tuple[Any, ...]]) -> None:
    with conn.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as stream:
        for row in rows:
            stream.write_row([Jsonb(value) if isinstance(value, dict | list) else value for value in row])


def _fill_items(conn: Any, learners: int, user: Any, rng: Any, fitted: datetime) -> None:
    run = run_id("calibrate-irt-weekly")
    metrics = {
        "converged": True,
        "n_iterations": 37,
        "aic": 41000.5,
        "bic": 41400.2,
        "components": 1,
        "warnings": [],
        "seed": 1,
    }
    insert(
        conn,
        "irt_fit_meta",
        run_id=run,
        model="2PL",
        n_users=learners,
        n_items=40,
        n_responses=40 * learners,
        log_likelihood=-20420.25,
        metrics=metrics,
        linking=None,
        fitted_at=fitted,
    )
    a, b = rng.lognormal(0, 0.35, 40), rng.normal(0, 1.1, 40)
    names = "run_id, item_id, a, b, se_a, se_b, n_responses, p_correct, infit, outfit, status, reason"
    items = [
        (
            run,
            f"alg-{i:03}",
            a[i],
            b[i],
            0.12,
            0.14,
            learners,
            1 / (1 + math.exp(b[i])),
            1.02,
            0.98 + (i == 4),
            "fitted",
            None,
        )
        for i in range(40)
    ]
    left_out = [
        (run, f"new-{i}", None, None, None, None, 9 + i, 1.0, None, None, "excluded", "9 answers, fewer than 30")
        for i in range(3)
    ]
    copy(conn, "irt_item_params", names, iter(items + left_out))
    thetas = zip(rng.normal(0, 0.95, learners), rng.uniform(0.2, 0.5, learners), strict=True)
    rows = ((run, user(i), float(theta), float(se), 40) for i, (theta, se) in enumerate(thetas))
    copy(conn, "irt_abilities", "run_id, user_id, theta, se, n_responses", rows)


def _fill_segments(conn: Any, learners: int, user: Any, rng: Any, fitted: datetime) -> None:
    run = run_id("cluster-segments")
    names = ["engagement", "improvement", "efficiency", "recovery", "accuracy", "sessions"]
    centers = {
        "steady": [0.5, 0.02, 0.1, 0.5, 0.66, 12.1],
        "thriving": [0.8, 0.06, 0.16, 0.7, 0.83, 21.4],
        "struggling": [0.52, -0.01, 0.08, 0.31, 0.41, 12.8],
        "drifting": [0.2, -0.05, 0.02, 0.42, 0.6, 3.2],
    }
    shares = rng.multinomial(learners, [0.4, 0.3, 0.18, 0.12])
    insert(
        conn,
        "cluster_fit_meta",
        run_id=run,
        n_clusters=4,
        method="kmeans",
        features=names,
        metrics={
            "silhouette": 0.41,
            "adjusted_rand_index": 0.97,
            "inertia": 1234.5,
            "dropped": {"mean_gap": "constant (3)"},
            "silhouette_by_k": {
                str(k): v for k, v in zip(range(2, 9), (0.31, 0.36, 0.41, 0.38, 0.33, 0.29, 0.27), strict=True)
            },
        },
        centers=[
            {"cluster_id": i, "label": label, "size": int(size), "center": dict(zip(names, center, strict=True))}
            for i, ((label, center), size) in enumerate(zip(centers.items(), shares, strict=True))
        ],
        fitted_at=fitted,
    )
    which = np.repeat(np.arange(4), shares)
    values = np.array(list(centers.values()))[which] * rng.normal(1, 0.15, (learners, 6))
    labels = list(centers)
    rows = (
        (user(i), labels[k], int(k), dict(zip(names, map(float, values[i]), strict=True)), run)
        for i, k in enumerate(which)
    )
    copy(conn, "user_segments", "user_id, segment_label, cluster_id, features, run_id", rows)


def _fill_survival(conn: Any, learners: int, user: Any, rng: Any, fitted: datetime) -> None:
    run = run_id("fit-survival-churn")
    terms = {"log_previous_gap": -0.52, "visits_per_week": 0.31, "log_activity": 0.05, "accuracy_28d": 0.22}
    days = list(range(31))
    survival = [math.exp(-0.28 * day**0.8) for day in days]
    predicted = np.linspace(0.1, 0.95, 10)
    insert(
        conn,
        "survival_fit_meta",
        run_id=run,
        formula="Surv(gap_days, event) ~ " + " + ".join(terms),
        coefficients={
            t: {"estimate": e, "se": 0.03, "robust_se": 0.04, "z": e / 0.04, "p": 0.0001 if abs(e) > 0.1 else 0.21}
            for t, e in terms.items()
        },
        hazard_ratios={
            t: {"hazard_ratio": math.exp(e), "lower": math.exp(e - 0.08), "upper": math.exp(e + 0.08)}
            for t, e in terms.items()
        },
        metrics={
            "n": 9100,
            "n_events": 8612,
            "n_users": learners,
            "concordance": 0.684,
            "warnings": [],
            "dropped": {"term": [], "reason": []},
            "log_likelihood": {"null": -71234.5, "model": -70100.2},
            "ph_test": {t: {"chisq": 1.2, "df": 1, "p": 0.27} for t in (*terms, "GLOBAL")},
            "holdout": {
                "n": 1300,
                "base_rate": 0.71,
                "brier": 0.142,
                "brier_base_rate": 0.206,
                "brier_gap_only": 0.171,
                "concordance": 0.77,
                "calibration_slope": 0.96,
                "calibration_intercept": 0.02,
                "bins": {
                    "predicted": predicted.tolist(),
                    "observed": np.clip(predicted + rng.normal(0, 0.04, 10), 0, 1).tolist(),
                    "n": [40, 60, 80, 100, 120, 150, 180, 200, 220, 150],
                },
            },
        },
        survival_curve={
            "day": days,
            "survival": survival,
            "lower": [s * 0.96 for s in survival],
            "upper": [min(1, s * 1.04) for s in survival],
        },
        fitted_at=fitted,
    )
    risk = np.where(rng.random(learners) < 0.1, 1.0, rng.beta(0.7, 2.5, learners))
    rows = (
        (user(i), float(r), i / max(learners - 1, 1), 20 if r == 1 else int(13 * r), run) for i, r in enumerate(risk)
    )
    copy(conn, "survival_risk", "user_id, risk, rank_percentile, days_away, run_id", rows)


def _fill_forecast(conn: Any, rng: Any, fitted: datetime) -> None:
    run = run_id("forecast-prophet")
    weeks = [date(2025, 8, 11) + timedelta(weeks=i) for i in range(16)]
    for metric, level, sd in (("I_t", 0.03, 0.006), ("A_t", 0.55, 0.02)):
        value = level + 0.001 * np.arange(12) + rng.normal(0, sd, 12)
        value[7] -= 6 * sd
        expected = level + 0.001 * np.arange(16)
        history = {
            "week_start": [str(week) for week in weeks[:12]],
            "value": value.tolist(),
            "expected": expected[:12].tolist(),
            "lower": (expected[:12] - 2.5 * sd).tolist(),
            "upper": (expected[:12] + 2.5 * sd).tolist(),
            "score": ((value - expected[:12]) / sd).tolist(),
            "anomaly": [i == 7 for i in range(12)],
        }
        ahead = {
            "week_start": [str(week) for week in weeks[12:]],
            "yhat": expected[12:].tolist(),
            "lower": (expected[12:] - 2.5 * sd).tolist(),
            "upper": (expected[12:] + 2.5 * sd).tolist(),
        }
        metrics = {
            "engine": "prophet",
            "n_weeks": 12,
            "interval_level": 0.988,
            "mae_prophet": sd,
            "mae_naive": 1.3 * sd,
            "n_rolling_origins": 5,
            "residual_sd": sd,
            "coverage": 11 / 12,
            "warnings": [],
            "seed": 1,
        }
        insert(
            conn,
            "prophet_fit_meta",
            run_id=run,
            metric=metric,
            changepoints={"week_start": [str(weeks[4])], "delta": [0.002]},
            forecast=ahead,
            history=history,
            metrics=metrics,
            fitted_at=fitted,
        )
        insert(
            conn,
            "anomalies",
            metric=metric,
            week_start=weeks[7],
            run_id=run,
            value=value[7],
            expected=expected[7],
            lower=expected[7] - 2.5 * sd,
            upper=expected[7] + 2.5 * sd,
            score=-6.1,
            detected_at=fitted,
        )


def _fill_growth(conn: Any, learners: int, user: Any, rng: Any, fitted: datetime) -> None:
    means = {"b_Intercept": 0.02, "b_week": 0.21, "sd_Intercept": 0.55, "sd_week": 0.3, "cor": -0.12, "sigma": 0.72}
    summary = {
        name: {
            "mean": mean,
            "sd": 0.04,
            "q5": mean - 0.066,
            "q50": mean,
            "q95": mean + 0.066,
            "rhat": 1.002,
            "ess_bulk": 2400.0,
            "ess_tail": 1800.0,
        }
        for name, mean in means.items()
    }
    weeks = list(range(12))
    examples = []
    for i in range(0, min(learners, 60), 10):
        line = 0.5 + 0.03 * (i / 10) + (0.004 * i / 10) * np.arange(16)
        examples.append(
            {
                "user_id": user(i),
                "week": weeks,
                "score": np.clip(line[:12] + rng.normal(0, 0.08, 12), 0, 1).tolist(),
                "band_week": list(range(16)),
                "mean": line.tolist(),
                "sd": [0.1] * 16,
            }
        )
    insert(
        conn,
        "brms_fit_meta",
        run_id=run_id("fit-bayesian-growth"),
        engine="marginal",
        formula="score ~ week + (week | student)",
        priors={"b_Intercept": "normal(0, 1)", "b_week": "normal(0, 1)", "cor": "lkj(2)"},
        posterior_summary=summary,
        diagnostics={
            "max_rhat": 1.004,
            "min_ess_bulk": 1812,
            "min_ess_tail": 1333,
            "divergent": 0,
            "max_treedepth_hits": 0,
            "n_draws": 2000,
            "n_chains": 4,
            "family": "gaussian",
            "seed": 1,
            "scaling": {"middle": 5.5, "span": 11, "center": 0.61, "scale": 0.14, "goal": 0.61},
        },
        examples=examples,
        fitted_at=fitted,
    )
    chance = rng.beta(2, 1.6, learners)
    rows = ((user(i), date(2025, 10, 27), {"P": float(p), "sigma": 0.1, "S": 0.5}) for i, p in enumerate(chance))
    copy(conn, "weekly_kpi", "user_id, week_start, kpis", rows)


@pytest.fixture
def without_tables(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with db.connect(postgres.create_database("report_without_tables")) as conn:
        yield conn
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("DROP DATABASE report_without_tables WITH (FORCE)")


@pytest.fixture(scope="module")
def filled_template(postgres: Postgres, empty_template: str) -> str:
    url = postgres.create_database("report_template", template=empty_template)
    with psycopg.connect(url, autocommit=True) as conn:
        fill(conn)
    return "report_template"


@pytest.fixture
def filled(postgres: Postgres, filled_template: str) -> Iterator[Database]:
    """A database in which every stage has published; 60 learners."""
    url = postgres.create_database("report_filled", template=filled_template)
    with db.connect(url) as conn:
        yield Database(url, conn)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("DROP DATABASE report_filled WITH (FORCE)")


@pytest.fixture(scope="module")
def page(postgres: Postgres, filled_template: str) -> Page:
    """The page of that database, which tests only look at."""
    with db.connect(postgres.create_database("report_page", template=filled_template)) as conn:
        return Page(render(conn, NOW))


def test_a_database_without_tables_gives_a_page_that_says_what_to_run(without_tables: psycopg.Connection[Any]) -> None:
    page = Page(render(without_tables, NOW))
    assert set(SECTIONS) <= set(page.ids)
    assert page.text.count("seed-analytics migrate") == 1 + len(SECTIONS)


def test_tables_that_are_partly_missing_take_only_their_sections(filled: Database) -> None:
    filled("DROP TABLE irt_abilities")
    page = Page(render(filled.conn, NOW))
    assert "The database lacks irt_abilities." in page.text
    assert page.sections_with_pictures() == {"segments", "survival", "forecast", "growth"}


def test_empty_tables_give_a_page_that_says_which_stages_to_run(database: Database) -> None:
    page = Page(render(database.conn, NOW))
    assert page.text.count("has not run yet") == len(STAGES)
    for stage in set(STAGES) - {"compute-weekly-kpis"}:
        assert f"There are no numbers yet: {stage} has not run. Run seed-analytics {stage}." in page.text


def test_every_published_stage_has_its_pictures(page: Page) -> None:
    assert page.sections_with_pictures() == set(SECTIONS)
    labels = " ".join(page.labels)
    for picture in (
        "Learners by segment",
        "Share of visits without a return",
        "Hazard ratios",
        "Learners by risk",
        "Predicted and observed returns",
        "Brier scores",
        "Improvement by week",
        "Engagement by week",
        "Learners by chance of the goal",
        "Posterior medians",
        "Weekly scores of learner learner-00000",
        "Chance of a right answer by ability",
        "Test information",
        "Learners by ability and items by difficulty",
        "Mean silhouette",
    ):
        assert picture in labels


def test_every_picture_is_described_and_stands_under_a_sentence(page: Page) -> None:
    assert len(page.labels) == page.tags["svg"] == page.tags["figure"] == page.tags["figcaption"]
    assert all(len(label) > 20 for label in page.labels)


def test_the_page_is_well_formed_and_its_ids_are_unique(page: Page) -> None:
    assert not page.faults
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)


def test_the_page_asks_the_network_for_nothing(page: Page) -> None:
    assert not page.addresses
    assert "script" not in page.tags
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page.source)
    assert "default-src 'none'" in page.source


def test_the_page_is_a_few_hundred_kilobytes(page: Page) -> None:
    assert 100_000 < len(page.source.encode()) < 2_000_000


def test_the_same_rows_give_the_same_bytes_in_another_process(filled: Database, tmp_path: Path) -> None:
    pages = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.html"
        command = [
            sys.executable,
            "-m",
            "seed_analytics.cli",
            "report",
            "--as-of",
            "2025-11-03",
            "--report-path",
            str(path),
        ]
        subprocess.run(command, check=True, env=os.environ | {"DATABASE_URL": filled.url, "PYTHONHASHSEED": seed})
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("changed", "tone", "words"),
    [
        ({}, "good", "published"),
        ({"status": "rejected", "reason": "R-hat 1.2"}, "bad", "rejected by its gate: nothing was published"),
        ({"status": "failed", "reason": "No route"}, "bad", "failed: nothing was published"),
        ({"status": "skipped", "reason": "3 learners"}, "calm", "skipped: too little data"),
        ({"status": "running", "reason": None, "finished_at": None}, "calm", "running"),
        ({"finished_at": NOW - timedelta(days=30), "started_at": NOW - timedelta(days=30)}, "warn", "stale"),
    ],
)
def test_a_run_shows_how_it_ended(database: Database, changed: dict[str, Any], tone: str, words: str) -> None:
    fill_runs(database.conn, **changed)
    page = Page(render(database.conn, NOW))
    assert page.text.count(words) >= len(STAGES)
    assert page.source.count(f'class="card {tone}"') == len(STAGES)
    if changed.get("reason"):
        assert page.text.count(changed["reason"]) >= len(STAGES)


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_a_section_tells_what_the_gate_said_of_its_numbers(filled: Database, stage: str) -> None:
    filled("UPDATE analytics_runs SET reason = 'Two items were left out; a third is odd.' WHERE stage = %s", stage)
    assert "The gate: Two items were left out. A third is odd." in Page(render(filled.conn, NOW)).text


def test_standings_are_told_as_places_among_the_learners(filled: Database) -> None:
    filled('UPDATE analytics_runs SET settings = settings || \'{"BRMS_SCORE_SCALE": "standing"}\'')
    filled("UPDATE brms_fit_meta SET diagnostics = jsonb_set(diagnostics, '{scaling,goal}', '0.5244')")
    text = Page(render(filled.conn, NOW)).text
    assert (
        "Each learner's accuracy is compared with that of the week's other learners: whether all improve is not seen."
        in text
    )
    assert "a week (90% sure" not in text
    assert "to reach a place above 70% of the week's learners in 4 weeks" in text


def end_later(filled: Database, status: str, reason: str) -> None:
    """Record a run of survival after the one that published, which ended so an hour ago."""
    insert(
        filled.conn,
        "analytics_runs",
        run_id="survival-20251103-060000",
        stage="fit-survival-churn",
        status=status,
        reason=reason,
        as_of=NOW,
        started_at=NOW - timedelta(hours=1),
        finished_at=NOW - timedelta(hours=1),
    )


def test_numbers_that_skipped_runs_left_as_they_were_are_called_stale(filled: Database) -> None:
    filled("UPDATE analytics_runs SET finished_at = %s", NOW - timedelta(days=30))
    end_later(filled, "skipped", "3 learners")
    page = Page(render(filled.conn, NOW))
    assert page.source.count('class="card warn"') == len(STAGES)


def test_after_a_rejected_run_the_last_good_numbers_stay_and_the_page_says_so(filled: Database) -> None:
    end_later(filled, "rejected", "S is not calibrated")
    page = Page(render(filled.conn, NOW))
    assert "survival" in page.sections_with_pictures()
    assert "The newest run: rejected by its gate: nothing was published. S is not calibrated." in page.text
    assert "What follows is from 3 Nov 2025, 05:15 UTC." in page.text
    assert "survival-20251103-050000, 2 hours ago" in page.text


def test_learners_at_risk_are_the_most_endangered_of_those_who_can_still_be_reached(
    filled: Database, page: Page
) -> None:
    wanted = filled("SELECT user_id FROM survival_risk WHERE risk < 1 ORDER BY risk DESC, user_id LIMIT 20")
    assert page.rows_of("Who is at risk now") == [user for (user,) in wanted]
    ((gone, reachable),) = filled(
        "SELECT count(*) FILTER (WHERE risk = 1), count(*) FILTER (WHERE risk < 1) FROM survival_risk"
    )
    assert f"Of {reachable} learners who can still be reached" in page.text
    assert f"{gone} more already have" in page.text


def test_the_chance_of_the_goal_is_that_of_each_learners_newest_week(filled: Database) -> None:
    before = Page(render(filled.conn, NOW)).label("Learners by chance")
    filled("INSERT INTO weekly_kpi SELECT user_id, week_start - 7, '{\"P\": 0.999}' FROM weekly_kpi")
    filled("INSERT INTO weekly_kpi SELECT DISTINCT user_id, date '2025-11-03', '{\"A_t\": 0.5}'::jsonb FROM weekly_kpi")
    assert Page(render(filled.conn, NOW)).label("Learners by chance") == before


def test_items_that_were_left_out_are_listed_with_their_reason(page: Page) -> None:
    assert page.rows_of("Items left out") == ["new-0", "new-1", "new-2"]
    assert "9 answers, fewer than 30." in page.text


HOSTILE = (
    "<script>alert(1)</script>",
    "</svg></style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }} {% raw %}",
    "$\\frac{1}{0}$ & &lt; %s %(x)s",
    "\x01\x1b[31m\u202eevil\u2028",
    "javascript:alert(1)",
    "' OR 1=1; --",
    "名前 \U0001f600 é",
    "x" * 5000,
)


def test_hostile_ids_are_shown_and_do_nothing(database: Database) -> None:
    def user(place: int) -> str:
        return HOSTILE[place % 10] + ("" if place < 10 else str(place)) if place % 10 < 9 else "x" * (4000 + place)

    fill(database.conn, 60, user)
    for place, label in enumerate(HOSTILE):
        database("UPDATE irt_item_params SET item_id = %s WHERE item_id = %s", label, f"alg-{place:03}")
    database("UPDATE analytics_runs SET reason = %s", HOSTILE[0])
    database("UPDATE user_segments SET segment_label = %s", HOSTILE[1])
    page = Page(render(database.conn, NOW))
    assert not page.faults
    assert not page.addresses
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    assert HOSTILE[0] in page.text
    assert HOSTILE[3] in page.text
    assert not re.search("[\x01\x1b\u202e\u2028]", page.source)


def test_neither_queries_nor_page_grow_with_the_learners(
    database: Database, filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    fetch = db.fetch_columns

    def counted(*args: Any) -> db.Columns:
        columns = fetch(*args)
        read.append(len(next(iter(columns.values()))))
        return columns

    monkeypatch.setattr(db, "fetch_columns", counted)
    few = render(filled.conn, NOW)
    queries, rows = len(read), sum(read)
    fill(database.conn, 10_000)
    read.clear()
    many = render(database.conn, NOW)
    assert len(read) == queries
    assert sum(read) < rows + 60  # bins that were empty before
    assert len(many) < 1.05 * len(few)


def test_thousands_of_items_are_cut_to_both_ends_and_the_page_says_so(filled: Database) -> None:
    filled(
        """INSERT INTO irt_item_params (run_id, item_id, a, b, n_responses, status)
        SELECT 'irt-20251103-050000', 'more-' || i, 1, i / 1000.0 - 2, 30, 'fitted' FROM generate_series(1, 4000) AS i"""
    )
    page = Page(render(filled.conn, NOW))
    assert len(page.rows_of("All items")) == 200
    assert "The 100 hardest and 100 easiest of 4,040 are shown; all are in irt_item_params" in page.text
    assert len(page.source) < 2_000_000


@pytest.mark.parametrize(
    ("brier", "judged"), [(0.02, "✓ better than a coin's 0.25"), (0.7, "! worse than a coin's 0.25")]
)
def test_a_survival_fit_on_whose_later_weeks_everybody_came_back_is_compared_with_a_coin(
    filled: Database, brier: float, judged: str
) -> None:
    filled(
        """UPDATE survival_fit_meta SET metrics = jsonb_set(metrics, '{holdout}', metrics -> 'holdout'
        || '{"base_rate": 1, "brier_base_rate": 0, "concordance": null, "calibration_slope": null}'
        || jsonb_build_object('brier', %s::float))""",
        brier,
    )
    page = Page(render(filled.conn, NOW))
    assert "everybody came back in time" in page.text
    assert judged in page.text
    assert "better than the base rate" not in page.text


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE survival_fit_meta SET metrics = metrics || \'{"holdout": null, "ph_test": {}}\'',
        "UPDATE survival_fit_meta SET hazard_ratios = '{\"x\": {\"hazard_ratio\": null}}', coefficients = '{}'",
        "UPDATE survival_risk SET risk = 1",
        "DELETE FROM survival_risk",
        'UPDATE survival_fit_meta SET survival_curve = \'{"day": [], "survival": [], "lower": [], "upper": []}\'',
        'UPDATE cluster_fit_meta SET n_clusters = 1, metrics = \'{"silhouette": null, "silhouette_by_k": {}}\', centers = jsonb_build_array(centers -> 0)',
        "DELETE FROM irt_abilities",
        "DELETE FROM irt_item_params",
        "DELETE FROM irt_item_params WHERE item_id <> 'alg-001'",
        "UPDATE prophet_fit_meta SET history = jsonb_set(history, '{value}', '[null,null,null,null,null,null,null,null,null,null,null,null]')",
        "UPDATE prophet_fit_meta SET metrics = '{}', changepoints = '{\"week_start\": [], \"delta\": []}'",
        "UPDATE brms_fit_meta SET examples = '[]', diagnostics = '{}'",
        "DELETE FROM weekly_kpi",
        "DELETE FROM analytics_runs",
        "DELETE FROM anomalies",
    ],
)
def test_what_a_fit_may_lack_leaves_a_whole_page(filled: Database, statement: str) -> None:
    filled(statement)
    page = Page(render(filled.conn, NOW))
    assert not page.faults
    assert set(SECTIONS) <= set(page.ids)
    assert not re.search(r"\b(nan|None|Undefined)\b", page.text)


def test_the_command_writes_the_page_and_says_where(
    filled: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "report.html"
    assert invoke("report", "--report-path", str(path), env={"DATABASE_URL": filled.url}) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(path)
    assert Page(path.read_text(encoding="utf-8")).sections_with_pictures() == set(SECTIONS)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_dry_run_writes_nothing(filled: Database, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert invoke("report", "--report-path", str(path), "--dry-run", env={"DATABASE_URL": filled.url}) == ExitCode.OK
    assert not path.exists()


def test_a_path_that_cannot_be_written_is_a_matter_of_configuration(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "report.html"
    assert invoke("report", "--report-path", str(path), env={"DATABASE_URL": database.url}) == ExitCode.CONFIG
    assert "REPORT_PATH" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    assert invoke("report", "--report-path", str(path), env=away) == ExitCode.UNAVAILABLE
    assert path.read_text() == "old"


def test_segments_of_the_real_stage_are_what_the_page_shows(simulated: Database) -> None:
    assert invoke("cluster-segments", env={"DATABASE_URL": simulated.url}) == ExitCode.OK
    page = Page(render(simulated.conn, datetime.now(UTC)))
    sizes = simulated("SELECT segment_label, count(*) FROM user_segments GROUP BY 1")
    for label, size in sizes:
        assert f"{label} {size} (" in page.label("Learners by segment")
    assert page.sections_with_pictures() == {"segments"}


# -- in a browser ------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Every pair of texts whose boxes share more than 2 pixels either way; each text node is one, as its lines are laid out.
OVERLAPPING_TEXTS = """() => {
  const boxes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const hidden = (element) =>  // for eyes, but there for screen readers
    element && (getComputedStyle(element).clipPath.startsWith("inset(50%") || hidden(element.parentElement));
  while (walker.nextNode()) {
    const node = walker.currentNode, text = node.textContent.trim(), range = document.createRange();
    if (!text || !node.parentElement.checkVisibility() || node.parentElement.closest("title, desc, style")) continue;
    if (hidden(node.parentElement)) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width > 0) boxes.push([text, box, node]);
  }
  const found = [];
  boxes.forEach(([text, a, node], place) => {
    for (const [other, b, its] of boxes.slice(place + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (node !== its && wide > 2 && high > 2) found.push(`${text.slice(0, 40)} | ${other.slice(0, 40)}`);
    }
  });
  return [boxes.length, found];
}"""


@dataclass
class Shown:
    """The page as a browser shows it: what it fetched and complained of."""

    view: playwright.Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=[1280, 390], ids=["desktop", "telephone"])
def shown(request: pytest.FixtureRequest, page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page at the width of a screen."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    file = tmp_path_factory.mktemp("shown") / "report.html"
    file.write_text(page.source, encoding="utf-8")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = Shown(browser.new_page(viewport={"width": request.param, "height": 900}))
        shown.view.on("request", lambda asked: shown.asked.append(asked.url))
        shown.view.on("console", lambda said: shown.complaints.append(said.text))
        shown.view.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.view.goto(file.as_uri())
        yield shown
        browser.close()


def test_browser_fetches_the_page_alone_and_complains_of_nothing(shown: Shown) -> None:
    assert shown.asked == [shown.view.url]
    assert shown.complaints == []


def test_page_is_no_wider_than_the_screen(shown: Shown) -> None:
    width, screen = shown.view.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= screen


def test_no_text_lies_upon_another(shown: Shown) -> None:
    texts, overlapping = shown.view.evaluate(OVERLAPPING_TEXTS)
    assert texts > 300
    assert overlapping == []
