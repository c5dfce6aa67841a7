"""Rolling forecasts of a course's weekly active learners (OULAD), beside a forecast that repeats the past."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from held_out import OULAD
from numpy.typing import NDArray
from seed_analytics.datasets import oulad
from seed_analytics.local import Postgres, RService
from seed_analytics.platform_tables import create_platform_tables
from support import copy_of

Floats = NDArray[np.float64]
COURSES = ("AAA-2013J", "AAA-2014J", "BBB-2013B", "AAA, both years")
HORIZON = 4  # weeks
STRIDE = 6  # weeks from one origin to the next
FIRST = 16  # weeks before the first origin
YEAR = 52

LEARNERS_A_WEEK = """
    SELECT date_trunc('week', started_at AT TIME ZONE 'UTC')::date AS week, count(DISTINCT student_id) FROM attempt
    GROUP BY week ORDER BY week
"""


def body_of(values: Any, first: date = date(2023, 1, 2), **settings: Any) -> dict[str, Any]:
    """Return a request for a forecast of weekly values, None or NaN in a gap; `first` is a Monday."""
    weeks = [(first + timedelta(weeks=place)).isoformat() for place in range(len(values))]
    known = [None if value is None or math.isnan(value) else float(value) for value in values]
    return {"metric": "I_t", "weeks": {"week_start": weeks, "value": known}, "n_samples": 200} | settings


@dataclass
class Rolled:
    """Forecasts of one series from several origins.

    Attributes:
        values: the series, NaN in a gap.
        origins: how many weeks each forecast had seen.
        fits: the service's replies, one an origin.
        lag: weeks back of what the simple forecast repeats; None for the last value.

    """

    values: Floats
    origins: list[int]
    fits: list[dict[str, Any]]
    lag: int | None

    def errors(self) -> tuple[Floats, Floats]:
        """Absolute errors of what was chosen, and of the simple forecast."""
        chosen, simple = [], []
        for origin, fit in zip(self.origins, self.fits, strict=True):
            later = self.values[origin : origin + HORIZON]
            chosen += list(np.abs(fit["forecast"]["yhat"] - later))
            repeated = self.values[origin - self.lag :][:HORIZON] if self.lag else self.values[origin - 1]
            simple += list(np.abs(repeated - later))
        return np.array(chosen), np.array(simple)


def weekly(postgres: Postgres, template: str, course: str) -> Floats:
    """Weekly active learners of a course, the last week, which is cut off, left out."""
    for database in copy_of(postgres, template, f"activity_{course[:3]}_{course[4:]}".lower()):
        oulad.load(database.conn, OULAD, datetime(2025, 6, 2, tzinfo=UTC), [course])
        weeks = database(LEARNERS_A_WEEK)
    assert all(later[0] - earlier[0] == timedelta(weeks=1) for earlier, later in pairwise(weeks))
    return np.array([float(count) for _, count in weeks])[:-1]


def roll(course: str, of: Callable[[str], Floats], ask: Callable[[Floats], dict[str, Any]]) -> Rolled:
    """Forecast a course from its rolling origins; the two years of AAA are one series with a gap, the summer."""
    if course == "AAA, both years":  # each begins in October
        values = np.full(YEAR + len(of("AAA-2014J")), np.nan)
        values[: len(of("AAA-2013J"))] = of("AAA-2013J")
        values[YEAR:] = of("AAA-2014J")
        first, lag = YEAR + FIRST, YEAR
    else:  # no week has one a year before it
        values, first, lag = of(course), FIRST, None
    origins = list(range(first, len(values) - HORIZON, STRIDE))
    return Rolled(values, origins, [ask(values[:origin]) for origin in origins], lag)


HEAD = ["series", "origins", "forecast by", "MAE, four weeks", "MAE of repeating", "what is repeated", "ratio"]


def row(course: str, rolled: Rolled) -> list[str]:
    """One row of the table under HEAD."""
    chosen, simple = (errors.mean() for errors in rolled.errors())
    engines = Counter(fit["engine"] for fit in rolled.fits)
    return [
        *(course, f"{len(rolled.fits)}", ", ".join(f"{name} {count}" for name, count in engines.most_common())),
        *(f"{chosen:.1f}", f"{simple:.1f}", "the year before" if rolled.lag else "the last value"),
        f"{chosen / simple:.2f}",
    ]


def measure(picture: Path) -> list[list[str]]:
    """Return the rows of the table, and draw the series with their forecasts."""
    with Postgres() as postgres, RService("r-forecast-plumber") as service:
        service.wait_ready()
        with psycopg.connect(postgres.create_database("empty"), autocommit=True) as conn:
            create_platform_tables(conn)

        def ask(values: Floats) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {service.token}"}
            url = f"{service.base_url}/prophet/fit"
            return dict(httpx.post(url, json=body_of(values), headers=headers, timeout=600).raise_for_status().json())

        of = cache(partial(weekly, postgres, "empty"))
        rolled = {course: roll(course, of, ask) for course in COURSES}
    draw(rolled, picture)
    return [row(course, seen) for course, seen in rolled.items()]


def draw(rolled: dict[str, Rolled], file: Path) -> None:
    """Draw each series, and what was forecast of it from each origin with the interval."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "activity", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(10.5, 6.5), layout="constrained")
        for axes, (course, seen) in zip(figure.subplots(2, 2).flat, rolled.items(), strict=True):
            axes.plot(
                np.arange(1, len(seen.values) + 1), seen.values, "o-", color="0.3", markersize=3, label="observed"
            )
            for place, (origin, fit) in enumerate(zip(seen.origins, seen.fits, strict=True)):
                weeks = origin + np.arange(1, HORIZON + 1)
                ahead = fit["forecast"]
                name = {"label": "forecast, with 98.8 % interval"} if place == 0 else {}
                axes.fill_between(weeks, ahead["lower"], ahead["upper"], color="#0072b2", alpha=0.2, linewidth=0)
                axes.plot(weeks, ahead["yhat"], color="#0072b2", linewidth=2, **name)
            axes.set(title=course, xlabel="week", ylabel="active learners")
            axes.set_ylim(0, 1.3 * np.nanmax(seen.values))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
