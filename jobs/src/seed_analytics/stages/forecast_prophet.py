"""forecast-prophet: where each metric is heading, and which weeks were not as expected (r-forecast-plumber)."""

from __future__ import annotations

from dataclasses import replace
from itertools import compress
from typing import Any

from seed_analytics.clients import client
from seed_analytics.db import Columns
from seed_analytics.errors import TooLittleData
from seed_analytics.run import Run, Stage, Verdict
from seed_analytics.settings import ProphetSettings
from seed_analytics.stages import gates, require_fresh_kpis

MIN_WEEKS = 8  # with fewer, a trend, its changes and the noise around it cannot be told apart


def extract(run: Run[ProphetSettings]) -> dict[str, Any]:
    """Read metric -> week_start, value (null where a week has no rows), complete weeks only; and what has too few."""
    require_fresh_kpis(run)
    metrics = list(run.settings.prophet_metrics)
    rows = run.read("forecast_prophet/weeks.sql", metrics=metrics, lookback_weeks=run.settings.prophet_lookback_weeks)
    series: dict[str, Columns] = {metric: {"week_start": [], "value": []} for metric in metrics}
    for metric, week, value in zip(rows["metric"], rows["week_start"], rows["value"], strict=True):
        series[metric]["week_start"].append(week.isoformat())
        series[metric]["value"].append(value)
    known = {metric: sum(value is not None for value in series[metric]["value"]) for metric in metrics}
    for metric in metrics:
        run.log.info(f"Loaded {known[metric]} complete weeks of {metric}")
    if max(known.values()) < MIN_WEEKS:
        raise TooLittleData(f"No metric of {', '.join(metrics)} has {MIN_WEEKS} complete weeks with values.")
    left_out = tuple(
        f"{metric} was left out: {weeks} complete weeks have values, a forecast needs {MIN_WEEKS}"
        for metric, weeks in known.items()
        if weeks < MIN_WEEKS
    )
    enough = {metric: weeks for metric, weeks in series.items() if known[metric] >= MIN_WEEKS}
    return {"series": enough, "left_out": left_out}


def fit(run: Run[ProphetSettings], data: dict[str, Any]) -> dict[str, Any]:
    """Forecast each metric; each week is judged by a fit that did not see it."""
    settings, service = run.settings, client("r-forecast-plumber", run.settings)
    replies = []
    for metric, weeks in data["series"].items():
        body = {
            "metric": metric,
            "weeks": weeks,
            "forecast_weeks": settings.prophet_forecast_weeks,
            "anomaly_threshold": settings.prophet_anomaly_threshold,
            "seed": settings.seed,
        }
        reply = service.post(
            "/prophet/fit",
            body,
            expect=("engine", "changepoints", "forecast", "history", "metrics", "versions"),
        )
        run.versions |= reply["versions"]
        replies.append(reply)
    return {"fits": replies, "left_out": data["left_out"]}


def gate(fit: dict[str, Any]) -> Verdict:
    """Judge the forecasts, and say which metrics have none."""
    verdict = gates.forecast(fit["fits"])
    return replace(verdict, remarks=fit["left_out"] + verdict.remarks)


def publish(run: Run[ProphetSettings], forecasts: dict[str, Any]) -> None:
    """Publish each forecast and the weeks that were not as expected."""
    names = ("metric", "week_start", "run_id", "value", "expected", "lower", "upper", "score")
    incoming: Columns = {name: [] for name in names}
    for fit in forecasts["fits"]:
        run.insert(
            "prophet_fit_meta",
            run_id=run.run_id,
            metric=fit["metric"],
            changepoints=fit["changepoints"],
            forecast=fit["forecast"],
            history=fit["history"],
            metrics=fit["metrics"] | {"engine": fit["engine"], "warnings": fit["warnings"], "seed": fit["seed"]},
        )
        history = fit["history"]
        # Of a week that has a value and no score nothing is said; what was found before stays.
        judged = [s is not None or v is None for s, v in zip(history["score"], history["value"], strict=True)]
        score = [s if odd else None for s, odd in zip(history["score"], history["anomaly"], strict=True)]
        weeks = len(score)
        own = {"metric": [fit["metric"]] * weeks, "run_id": [run.run_id] * weeks, "score": score}
        for name in names:
            incoming[name] += compress(own.get(name) or history[name], judged)
    run.merge("anomalies", incoming, "forecast_prophet/merge_anomalies.sql")
    found = sum(score is not None for score in incoming["score"])
    run.log.info(f"Updated anomalies: {found} week(s) of {len(incoming['score'])} not as expected")


STAGE = Stage("forecast-prophet", "prophet", ProphetSettings, extract, fit, gate, publish)
