"""Chances of growth beside the scores that came after them: tutor-marked assessments (TMAs) of OULAD, by one rule.

The rule, the same for every presentation: the last TMA is held out, the stage fit-bayesian-growth sees what was submitted
of the others up to halfway between the deadlines of the last two, each mark as a KPI of the week in which it was due,
and publishes the chance of its default goal, the mean of those scores, in the week of the last deadline. At least three
TMAs must be due before: the fewest that tell a line from its noise.

Each presentation is judged on SCALES of the stage: on the marks as given, whose difficulty moves from one TMA to the
next for everybody, and on standings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from held_out import draw_bins
from numpy.typing import NDArray
from scipy import optimize, special, stats
from seed_analytics.errors import ExitCode
from support import SHARED, Database

OULAD = SHARED / "data" / "oulad"
LEAST_BEFORE = 3  # TMAs due before the last
MONDAY = date(2024, 1, 1)  # on which every presentation starts
SCALES = {"raw": "marks as given", "standing": "standings"}
"""BRMS_SCORE_SCALE -> what it makes of marks."""

Floats = NDArray[np.float64]


@cache
def deadlines() -> dict[str, list[tuple[int, int]]]:
    """Day and id of the TMAs of each presentation ("AAA-2013J") that has enough of them, by day."""
    import pyarrow.parquet as pq

    found: dict[str, list[tuple[int, int]]] = {}
    for row in pq.read_table(OULAD / "assessments.parquet").to_pylist():
        if row["assessment_type"] == "TMA":
            name = f"{row['code_module']}-{row['code_presentation']}"
            found.setdefault(name, []).append((row["date"], row["id_assessment"]))
    return {name: sorted(due) for name, due in sorted(found.items()) if len(due) > LEAST_BEFORE}


@cache
def _submissions() -> dict[str, NDArray[Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(OULAD / "studentAssessment.parquet")
    read = {name: table[name].to_numpy() for name in table.column_names}
    kept = ~np.isnan(read["score"]) & (read["is_banked"] == 0)
    return {name: values[kept] for name, values in read.items()}


def normal_scores(score: Floats) -> Floats:
    """Return the normal quantiles of (rank - 1/2) / n of scores of one TMA; equal scores share a rank."""
    return stats.norm.ppf((stats.rankdata(score) - 0.5) / len(score))


@dataclass
class Chances:
    """One row a student with a score of the last TMA.

    Attributes:
        chance: to reach the goal, as /growth/predict gives it.
        base_rate: share of the earlier scores that reach it.
        last: 1 where the student's last score before did, else 0.
        reached: 1 where the held-out score does, else 0.
        inside: 1 where the held-out score is in its 95 % interval, else 0.

    """

    chance: Floats
    base_rate: Floats
    last: Floats
    reached: Floats
    inside: Floats

    def brier(self, forecast: Floats) -> float:
        """Mean squared error of a probability."""
        return float(np.square(forecast - self.reached).mean())

    def slope(self) -> float:
        """Slope of the logistic regression of the outcome on logit(chance): 1 where it is neither bold nor timid."""
        logit = special.logit(np.clip(self.chance, 0.001, 0.999))

        def loss(line: Floats) -> float:
            return float(-special.log_expit((line[0] + line[1] * logit) * np.where(self.reached, 1, -1)).sum())

        return float(optimize.minimize(loss, [0.0, 1.0]).x[1])

    def row(self, name: str) -> list[str]:
        """One row of the table under HEAD."""
        briers = [f"{self.brier(forecast):.3f}" for forecast in (self.chance, self.base_rate, self.last)]
        means = [f"{self.chance.mean():.2f}", f"{self.reached.mean():.2f}"]
        return [name, f"{len(self.chance):,}", *means, *briers, f"{self.slope():.2f}", f"{self.inside.mean():.0%}"]


HEAD = ["presentation", "later scores", "mean P", "reached", "Brier: P", "base rate", "same as last time", "slope"]
HEAD += ["95 % covers"]


def judge(database: Database, run: Callable[..., int], presentation: str, scale: str) -> Chances:
    """Run the stage on the marks up to the cut, and put what it publishes beside the marks of the last TMA.

    Args:
        database: with the platform's tables; its KPIs are replaced.
        run: runs a command against it with the real services, as `support.run_with` does.
        presentation: one of `deadlines()`.
        scale: one of SCALES.

    """
    *_, (before, _), (last_due, last_id) = deadlines()[presentation]
    read = _submissions()
    due = {assessment: day for day, assessment in deadlines()[presentation]}
    of = np.isin(read["id_assessment"], list(due))
    student, day, mark, assessment = (
        read[name][of] for name in ("id_student", "date_submitted", "score", "id_assessment")
    )
    week = np.array([due[one] // 7 for one in assessment.tolist()])
    past = (day <= (before + last_due) / 2) & (assessment != last_id)
    later = (day > (before + last_due) / 2) & (assessment == last_id)
    first = int(week[past].min())
    database("TRUNCATE weekly_kpi, brms_fit_meta")
    database(
        """INSERT INTO weekly_kpi (user_id, week_start, kpis)
        SELECT student, week, jsonb_build_object('A_t', mark) FROM unnest(%s::text[], %s::date[], %s::float[])
        AS submitted (student, week, mark)""",
        student[past].tolist(),
        [MONDAY + timedelta(weeks=int(one)) for one in week[past]],
        mark[past].tolist(),
    )
    settings = {
        "BRMS_SCORE_SOURCE": "A_t",
        "BRMS_SCORE_SCALE": scale,
        "BRMS_LOOKBACK_WEEKS": str(before // 7 - first + 1),
        "BRMS_HORIZON_WEEKS": str(last_due // 7 - before // 7),
        "BRMS_N_SAMPLES": "2000",  # lines through three weeks mix slowly
    }
    as_of = MONDAY + timedelta(weeks=before // 7 + 1)
    code = run(database, "fit-bayesian-growth", "--as-of", as_of.isoformat(), **settings)
    assert code == ExitCode.OK, database.runs("fit-bayesian-growth")[-1]
    ((goal,),) = database("SELECT (diagnostics #>> '{scaling,goal}')::float FROM brms_fit_meta")
    published = {
        int(user): (p, sigma)
        for user, p, sigma in database(
            "SELECT user_id, (kpis ->> 'P')::float, (kpis ->> 'sigma')::float FROM weekly_kpi WHERE kpis ? 'P'"
        )
    }
    score = mark.astype(float)
    if scale == "standing":
        for seen in (past, later):
            for one in set(assessment[seen].tolist()):
                score[seen & (assessment == one)] = normal_scores(mark[seen & (assessment == one)])
    assert abs(score[past].mean() - goal) <= 5e-4  # by the stage, from what it has read
    order = np.argsort(week[past], kind="stable")
    last = dict(zip(student[past][order].tolist(), score[past][order] >= goal, strict=True))
    judged = [place for place in np.flatnonzero(later) if student[place] in published]
    chance, sigma = np.array([published[student[place]] for place in judged]).T
    found = score[judged]
    return Chances(
        chance,
        np.full(len(found), (score[past] >= goal).mean()),
        np.array([last[student[place]] for place in judged], float),
        (found >= goal).astype(float),
        # P is nearly the tail of a normal beyond the goal, whose sd is sigma: that gives its mean.
        (np.abs(found - (goal + sigma * stats.norm.ppf(chance))) <= stats.norm.ppf(0.975) * sigma).astype(float),
    )


def together(found: Iterable[Chances]) -> Chances:
    """Every presentation's rows, one after the other."""
    kept = list(found)
    names = Chances.__dataclass_fields__
    return Chances(*(np.concatenate([getattr(one, name) for one in kept]) for name in names))


def draw(found: dict[str, Chances], file: Path) -> None:
    """Draw the share that reached the goal against P by scale, ten groups of similar P, with 95 % Wilson intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "held-out-scores", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(7.5, 4.3), layout="constrained")
        for axes, (scale, seen) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
            axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfect")
            draw_bins(axes, seen.chance, seen.reached, "learners by P, with 95 % interval")
            axes.set(title=SCALES[scale], xlabel="P (predicted)", xlim=(0, 1.02), ylim=(0, 1.02))
        figure.axes[0].set_ylabel("share who reached the goal")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
