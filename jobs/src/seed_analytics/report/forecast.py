"""The section on forecasts: where each metric is heading, and which weeks were not as expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seed_analytics.report import pictures
from seed_analytics.report.parts import Picture, Read, Section, Table, diagnostics, rows
from seed_analytics.report.words import (
    FEATURES,
    NONE,
    count,
    day,
    finite,
    listed,
    moment,
    number,
    percent,
    sentences,
    shown,
    significant,
    things,
)
from seed_analytics.settings import CLUSTER_FEATURES

TABLES = ("analytics_runs", "prophet_fit_meta", "anomalies")
MOST = 20  # anomalies listed
NAMES = {kpi: FEATURES[feature][:2] for feature, kpi in CLUSTER_FEATURES.items()}
"""KPI -> its name and unit."""

EMPTY = Section(
    "forecast-prophet", "forecast", "Forecast", "Where is it heading, and which weeks were not as expected?"
)


def section(read: Read) -> Section:
    """Return the section, without numbers where no run has published."""
    fits = rows(read("forecast"))
    if not fits:
        return EMPTY
    lead: list[Picture | Table] = []
    for place, fit in enumerate(fits):
        name, unit = NAMES.get(fit["metric"], (fit["metric"], "own unit"))
        lead.append(
            Picture(
                f"{shown(name)}, mean of all learners",
                "Dots are the weeks seen, the grey band is where each was expected, and the dashed line is where it is "
                f"heading. {_marked(fit['history'])}",
                pictures.forecast(f"forecast-{place}", name, unit, fit["history"], fit["forecast"]),
            )
        )
    lead.append(
        Table(
            "The weeks to come",
            "The most likely value, and the interval in which it will probably lie.",
            (("Metric", ""), ("Week beginning", ""), ("Expected", ""), ("From", ""), ("To", "")),
            [
                [shown(_name(fit["metric"])), day(week), significant(yhat), significant(low), significant(high)]
                for fit in fits
                for week, yhat, low, high in zip(
                    *(fit["forecast"][key] for key in ("week_start", "yhat", "lower", "upper")), strict=True
                )
            ],
            frozenset({2, 3, 4}),
            wide=len(fits) % 2 == 0,
        )
    )
    odd = rows(read("forecast_anomalies", most=MOST))
    if odd:
        lead.append(
            Table(
                "Weeks that were not as expected",
                f"The newest {MOST} at most. The score is the distance from what was expected, in robust standard "
                "deviations.",
                (
                    ("Metric", ""),
                    ("Week beginning", ""),
                    ("Seen", ""),
                    ("Expected", ""),
                    ("Interval", ""),
                    ("Score", ""),
                    ("First noticed", ""),
                ),
                [
                    [
                        shown(_name(row["metric"])),
                        day(row["week_start"]),
                        significant(row["value"]),
                        significant(row["expected"]),
                        f"{significant(row['lower'])} to {significant(row['upper'])}",
                        number(row["score"], 1, sign=True),
                        day(row["detected_at"]),
                    ]
                    for row in odd
                ],
                frozenset({2, 3, 4, 5}),
                wide=True,
            )
        )
    statistics: list[Picture | Table] = [
        diagnostics(f"The fit of {shown(_name(f['metric']))}", _found(f)) for f in fits
    ]
    return replace(
        EMPTY,
        headline=" ".join(_headline(fit) for fit in fits),
        lead=lead,
        statistics=statistics,
        verdict=sentences(fits[0]["verdict"]),
        run_id=fits[0]["run_id"],
        fitted=moment(fits[0]["fitted_at"]),
    )


def _name(metric: str) -> str:
    return NAMES.get(metric, (metric, ""))[0]


def _odd_weeks(history: Mapping[str, Any]) -> list[str]:
    return [week for week, flag in zip(history["week_start"], history["anomaly"], strict=True) if flag]


def _marked(history: Mapping[str, Any]) -> str:
    odd = len(_odd_weeks(history))
    return (
        f"A diamond marks {'the week' if odd == 1 else 'weeks'} outside the band." if odd else "No week lies outside."
    )


def _headline(fit: Mapping[str, Any]) -> str:
    seen = [value for value in fit["history"]["value"] if finite(value)]
    ahead = fit["forecast"]["yhat"]
    odd = _odd_weeks(fit["history"])
    said = (
        f"{shown(_name(fit['metric']))} was {significant(seen[-1])} last week" if seen else shown(_name(fit["metric"]))
    )
    if ahead:
        said += f" and is expected to be {significant(ahead[-1])} in {things(len(ahead), 'week')}"
    weeks = listed([day(week) for week in odd[-3:]])
    return f"{said}; " + (f"not as expected: the week of {weeks}." if odd else "every week was as expected.")


def _found(fit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    metrics, points = fit["metrics"], fit["changepoints"]
    own, naive = metrics.get("mae_prophet"), metrics.get("mae_naive")
    better = (
        f"{'✓ better' if own < naive else '! not better'} than repeating the past ({significant(naive)}), "
        f"over {things(metrics.get('n_rolling_origins'), 'forecast')} of weeks not seen"
        if finite(own) and finite(naive)
        else "too few weeks to try it on the past"
    )
    changed = [day(w) for w, delta in zip(points["week_start"], points["delta"], strict=True) if delta]
    coverage, level = metrics.get("coverage"), metrics.get("interval_level")
    return [
        ("Engine", shown(metrics.get("engine", NONE)), f"{things(metrics.get('n_weeks'), 'complete week')}"),
        ("Mean absolute error of Prophet", significant(own), better),
        (
            "Coverage",
            percent(coverage),
            f"of the weeks lie inside the interval that was expected of them; meant to be {percent(level, 1)}",
        ),
        (
            "Residual standard deviation",
            significant(metrics.get("residual_sd")),
            "of weeks not seen, in the metric's unit",
        ),
        ("Changes of trend", count(len(changed)), listed(changed) or "none"),
    ]
