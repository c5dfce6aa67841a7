"""Predictions of a stage beside what then happened, on courses of OULAD that went on after the prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from seed_analytics.datasets import oulad
from seed_analytics.errors import ExitCode
from support import SHARED, Database

OULAD = SHARED / "data" / "oulad"
NOW = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday; courses are moved to end just before it
THRESHOLD = 14  # days of silence after which a learner is lost: SURVIVAL_EVENT_THRESHOLD_DAYS
FIRST = 91  # days after the start: a full look-back of 90 days

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
        survival: S as published, 0..1.
        gap_only: the same by who knows the days away only: from the published Kaplan-Meier curve.
        back: 1 where the learner did come back in time, else 0.
        dates: on which the stage published.
        rejected: dates on which its gate kept the fit out.

    """

    survival: Floats
    gap_only: Floats
    back: Floats
    dates: list[date]
    rejected: list[date]

    def brier(self, predicted: Floats | float) -> float:
        """Mean squared error of a probability."""
        return float(np.mean((predicted - self.back) ** 2))

    def calibration(self) -> tuple[float, float]:
        """Intercept and slope of logit P(back) on logit S (Cox, Biometrika 45:562, 1958): 0 and 1 where calibrated."""
        return calibration_line(self.survival, self.back)


def calibration_line(predicted: Floats, happened: Floats) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of what happened on the logit of its prediction."""
    x = np.column_stack([np.ones_like(predicted), logit(np.clip(predicted, 1e-6, 1 - 1e-6))])
    sign = 2 * happened - 1

    def loss(beta: Floats) -> tuple[float, Floats]:
        z = x @ beta
        return -log_expit(sign * z).sum(), -x.T @ (happened - expit(z))

    intercept, slope = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    return float(intercept), float(slope)


def predict(database: Database, run: Callable[..., int], course: str, stride: int) -> Predictions:
    """Load a course, run the stage at dates inside it as a user would, and look into the log for what came after."""
    oulad.load(database.conn, OULAD, NOW, [course])
    days = {user: np.array(sorted(seen)) for user, seen in database(DAYS)}
    as_of = min(seen[0] for seen in days.values()) + timedelta(days=FIRST)
    last = database(DEADLINE)[0][0] - timedelta(days=THRESHOLD)
    rows: list[tuple[float, float, bool]] = []
    dates: list[date] = []
    rejected: list[date] = []
    while as_of <= last:
        ended = run(database, "fit-survival-churn", "--as-of", as_of.isoformat())
        assert ended in (ExitCode.OK, ExitCode.REJECTED), database.runs("fit-survival-churn")[-1]
        if ended == ExitCode.OK:
            dates.append(as_of)
            rows += _followed(database, days, as_of)
        else:
            rejected.append(as_of)
        as_of += timedelta(days=stride)
    survival, gap_only, back = np.array(rows, float).T
    return Predictions(survival, gap_only, back, dates, rejected)


def _followed(
    database: Database, days: dict[str, NDArray[np.object_]], as_of: date
) -> Iterator[tuple[float, float, bool]]:
    curve = database("SELECT survival_curve FROM survival_fit_meta ORDER BY run_id DESC LIMIT 1")[0][0]
    unseen = dict(zip(curve["day"], curve["survival"], strict=True))
    for user, risk, away in database("SELECT user_id, risk, days_away FROM survival_risk"):
        if away < THRESHOLD:
            later = days[user][days[user] >= as_of]
            # The last complete day is the one before as_of, `away` days after the last visit.
            back = later.size > 0 and (later[0] - as_of).days + 1 + away <= THRESHOLD
            yield 1 - risk, 1 - unseen[THRESHOLD] / unseen[int(away)], back
