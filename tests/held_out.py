"""Predictions of a stage beside what then happened, on courses of OULAD that went on after the prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from seed_analytics import migrations
from seed_analytics.datasets import oulad
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres, RService
from seed_analytics.platform_tables import create_platform_tables
from seed_analytics.report.pictures import wilson
from seed_analytics.settings import SERVICES
from support import SHARED, Database, copy_of, run_with

OULAD = SHARED / "data" / "oulad"
NOW = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday; courses are moved to end just before it
THRESHOLD = 14  # days of silence after which a learner is lost: SURVIVAL_EVENT_THRESHOLD_DAYS
FIRST = 91  # days after the start: a full look-back of 90 days
# Days between predictions: no whole number of weeks, so that every weekday is predicted from, as by a stage that runs
# every night. The covariates were chosen on the two AAA courses; BBB-2013B was looked at once they were.
COURSES = {"AAA-2013J": 11, "AAA-2014J": 11, "BBB-2013B": 22}

Floats = NDArray[np.float64]

# Who is seen again: their days, from the table itself and not from the stage's own extract.
DAYS = "SELECT student_id, array_agg(DISTINCT (started_at AT TIME ZONE 'UTC')::date) FROM attempt GROUP BY student_id"
# The last deadline: the last day on which most of an assessment's submissions came in. Who leaves after it is not lost
# but done, and everybody leaves.
DEADLINE = """
    SELECT max(due) FROM (
        SELECT mode() WITHIN GROUP (ORDER BY (started_at AT TIME ZONE 'UTC')::date) AS due
        FROM attempt WHERE item_id LIKE 'assessment-%' GROUP BY item_id
    ) AS assessments
"""


@dataclass
class Predictions:
    """One row a learner and prediction date, where the learner was then away for less than the threshold.

    Attributes:
        learner: whose prediction it is.
        survival: S as published, 0..1.
        gap_only: the same by who knows the days away only: from the published Kaplan-Meier curve.
        back: 1 where the learner did come back in time, else 0.
        made: ordinal of the date of the prediction.
        dates: on which the stage published.
        rejected: dates on which its gate kept the fit out, with its reason.
        deadline: the last of the course's assessments.

    """

    learner: NDArray[np.str_]
    survival: Floats
    gap_only: Floats
    back: Floats
    made: Floats
    dates: list[date]
    rejected: dict[date, str]
    deadline: date

    def to_the_deadline(self) -> Predictions:
        """Those of which the outcome was known at the last deadline: who leaves after it is done, not lost."""
        last = self.deadline - timedelta(days=THRESHOLD)
        kept = self.made <= last.toordinal()
        return Predictions(
            self.learner[kept],
            *(column[kept] for column in (self.survival, self.gap_only, self.back, self.made)),
            [day for day in self.dates if day <= last],
            {day: reason for day, reason in self.rejected.items() if day <= last},
            self.deadline,
        )

    def brier(self, predicted: Floats | float) -> float:
        """Mean squared error of a probability."""
        return float(np.mean((predicted - self.back) ** 2))

    def calibration(self) -> tuple[float, float]:
        """Intercept and slope of logit P(back) on logit S (Cox, Biometrika 45:562, 1958): 0 and 1 where calibrated."""
        return calibration_line(self.survival, self.back, np.ones_like(self.back))

    def gain(self) -> float:
        """How much the Brier score of who knows the days away only is above that of S."""
        return self.brier(self.gap_only) - self.brier(self.survival)

    def intervals(self, times: int = 500, seed: int = 1) -> tuple[Floats, Floats]:
        """95 % intervals of the gain and of the calibration slope: bootstrap of learners, whose rows are alike."""
        _, who = np.unique(self.learner, return_inverse=True)
        gained = (self.gap_only - self.back) ** 2 - (self.survival - self.back) ** 2
        rng = np.random.default_rng(seed)
        learners = who.max() + 1
        drawn = [np.bincount(rng.integers(learners, size=learners), minlength=learners)[who] for _ in range(times)]
        gains = [np.average(gained, weights=weight) for weight in drawn]
        slopes = [calibration_line(self.survival, self.back, weight)[1] for weight in drawn]
        return np.quantile(gains, [0.025, 0.975]), np.quantile(slopes, [0.025, 0.975])


def calibration_line(predicted: Floats, happened: Floats, weight: Floats) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of what happened on the logit of its prediction."""
    x = np.column_stack([np.ones_like(predicted), logit(np.clip(predicted, 1e-6, 1 - 1e-6))])
    sign = 2 * happened - 1

    def loss(beta: Floats) -> tuple[float, Floats]:
        z = x @ beta
        return -(weight * log_expit(sign * z)).sum(), -x.T @ (weight * (happened - expit(z)))

    intercept, slope = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    return float(intercept), float(slope)


def predict(
    database: Database, run: Callable[..., int], course: str, stride: int, *, to_the_close: bool = False
) -> Predictions:
    """Load a course, run the stage at dates inside it as a user would, and look into the log for what came after.

    Predictions are made up to 14 days before the last deadline of an assessment, or before the course closes.
    """
    oulad.load(database.conn, OULAD, NOW, [course])
    days = {user: np.array(sorted(seen)) for user, seen in database(DAYS)}
    as_of = min(seen[0] for seen in days.values()) + timedelta(days=FIRST)
    deadline = database(DEADLINE)[0][0]
    last = max(seen[-1] for seen in days.values()) if to_the_close else deadline
    rows: list[tuple[str, float, float, bool, int]] = []
    dates: list[date] = []
    rejected: dict[date, str] = {}
    while as_of <= last - timedelta(days=THRESHOLD):
        ended = run(database, "fit-survival-churn", "--as-of", as_of.isoformat())
        status, reason = database.runs("fit-survival-churn")[-1]
        assert ended in (ExitCode.OK, ExitCode.REJECTED), (status, reason)
        if ended == ExitCode.OK:
            dates.append(as_of)
            rows += [(*row, as_of.toordinal()) for row in _followed(database, days, as_of)]
        else:
            rejected[as_of] = reason
        as_of += timedelta(days=stride)
    learner, *columns = zip(*rows, strict=True)
    return Predictions(np.array(learner), *(np.array(column, float) for column in columns), dates, rejected, deadline)


def _followed(
    database: Database, days: dict[str, NDArray[np.object_]], as_of: date
) -> Iterator[tuple[str, float, float, bool]]:
    curve = database("SELECT survival_curve FROM survival_fit_meta ORDER BY run_id DESC LIMIT 1")[0][0]
    unseen = dict(zip(curve["day"], curve["survival"], strict=True))
    for user, risk, away in database("SELECT user_id, risk, days_away FROM survival_risk"):
        if away < THRESHOLD:
            later = days[user][days[user] >= as_of]
            # The last complete day is the one before as_of, `away` days after the last visit.
            back = later.size > 0 and (later[0] - as_of).days + 1 + away <= THRESHOLD
            yield user, 1 - risk, 1 - unseen[THRESHOLD] / unseen[int(away)], back


# ---- The table and the picture of the pages


def bins(predicted: Floats, happened: Floats, count: int = 10) -> tuple[Floats, Floats, Floats]:
    """Mean chance, share of what happened, and number, of `count` groups with similar chances."""
    groups = np.array_split(np.argsort(predicted, kind="stable"), count)
    return tuple(  # type: ignore[return-value]
        np.array([of(group) for group in groups])
        for of in (lambda g: predicted[g].mean(), lambda g: happened[g].mean(), len)
    )


def draw_bins(axes: Any, predicted: Floats, happened: Floats, label: str) -> None:
    """Draw what happened against the chance, with 95 % Wilson intervals, in a panel."""
    p, o, n = bins(predicted, happened)
    axes.vlines(p, *wilson(o, n), color="#0072b2", linewidth=1.5)
    axes.plot(p, o, "o", color="#0072b2", label=label)


def draw(found: dict[str, Predictions], file: Path) -> None:
    """Draw predicted against observed, a panel a course, with 95 % Wilson intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "held-out", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(10.5, 4.3), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (course, seen) in zip(panels, found.items(), strict=True):
            axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfect")
            p, o, _ = bins(seen.survival, seen.back)
            axes.plot(p, o, "o", markerfacecolor="white", color="0.45", label="until the course closes")
            shown = seen.to_the_deadline()
            draw_bins(axes, shown.survival, shown.back, "until the last deadline, with 95 % interval")
            axes.set(title=course, xlabel="S (predicted)", xlim=(0, 1.02), ylim=(0, 1.02))
        panels[0].set_ylabel("share who came back in time")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


HEAD = ["course", "predictions end before", "dates", "rejected", "predictions", "came back"]
HEAD += ["Brier: S", "days away only", "base rate", "days away only less S (95 %)", "calibration slope (95 %)"]


def row(course: str, seen: Predictions, until: str) -> list[str]:
    """One row of the table under HEAD."""
    base, (_, slope) = float(seen.back.mean()), seen.calibration()
    gain, around = seen.intervals()
    briers = [f"{seen.brier(p):.4f}" for p in (seen.survival, seen.gap_only, base)]
    counts = [f"{count:,}" for count in (len(seen.dates), len(seen.rejected), len(seen.back))]
    gained = f"{seen.gain():.4f} ({gain[0]:.4f} to {gain[1]:.4f})"
    return [course, until, *counts, f"{base:.3f}", *briers, gained, f"{slope:.2f} ({around[0]:.2f} to {around[1]:.2f})"]


def measure(picture: Path) -> tuple[list[list[str]], list[str]]:
    """Run the stage inside the courses up to the day on which each closes, and draw predicted against observed.

    Returns:
        the rows of the table, two a course, and a sentence for each date on which the gate kept the fit out.

    """
    found = {}
    with Postgres() as postgres, RService("r-forecast-plumber") as service:
        url = postgres.create_database("empty")
        with psycopg.connect(url, autocommit=True) as conn:
            create_platform_tables(conn)
        migrations.migrate(url)
        run = partial(run_with, dict.fromkeys(SERVICES.values(), service))
        for course, stride in COURSES.items():
            for database in copy_of(postgres, "empty", f"course_{course[:3]}_{course[4:]}".lower()):
                found[course] = predict(database, run, course, stride, to_the_close=True)
    draw(found, picture)
    ends = ((Predictions.to_the_deadline, "the last deadline"), (lambda seen: seen, "the course closes"))
    return [row(course, of(seen), until) for course, seen in found.items() for of, until in ends], [
        f"{course}, {(seen.deadline - day).days} days before the last deadline. {reason}"
        for course, seen in found.items()
        for day, reason in seen.rejected.items()
    ]
