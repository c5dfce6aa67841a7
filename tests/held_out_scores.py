"""Chances of growth beside the scores that came after them: tutor-marked assessments (TMAs) of OULAD, by one rule.

The rule, the same for every presentation and without a look at its scores: the last TMA is held out, the fit sees what
was submitted up to halfway between the deadlines of the last two, the goal is the median of that, and the horizon is
the last deadline. At least three TMAs must be due before: the fewest that tell a line from its noise.

Each presentation is judged on SCALES: on the marks as given, whose difficulty moves from one TMA to the next for
everybody, and on two that put every TMA on one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from held_out import draw_bins
from numpy.typing import NDArray
from scipy import optimize, special, stats
from support import SHARED

OULAD = SHARED / "data" / "oulad"
FIT, PREDICT = "/growth/fit", "/growth/predict"
LEAST_BEFORE = 3  # TMAs due before the last

Floats = NDArray[np.float64]
Columns = dict[str, list[Any]]
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


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


def sums(rows: Columns) -> Columns:
    """Sums of each student: what /growth/predict takes."""
    users, index = np.unique(rows["user_id"], return_inverse=True)
    x, y = np.array(rows["week"]), np.array(rows["score"])
    parts = {"n": np.ones(len(x)), "sw": x, "sww": x * x, "sy": y, "swy": x * y}
    return {"user_id": users.tolist()} | {k: np.bincount(index, v).tolist() for k, v in parts.items()}


def standardised(score: Floats) -> Floats:
    """Return scores of one TMA with mean 0 and sd 1."""
    return (score - score.mean()) / (score.std() or 1)


def normal_scores(score: Floats) -> Floats:
    """Return the normal quantiles of (rank - 1/2) / n of scores of one TMA; equal scores share a rank."""
    return stats.norm.ppf((stats.rankdata(score) - 0.5) / len(score))


MARKS, STANDARDISED, STANDINGS = "marks as given", "standardised marks", "standings"
SCALES: dict[str, Callable[[Floats], Floats]] = {
    MARKS: lambda score: score,
    STANDARDISED: standardised,
    STANDINGS: normal_scores,
}
"""What is done with the scores of each TMA: those that the fit sees apart from later ones, of which it knows nothing."""


def on_scale(scale: str, score: Floats, assessment: NDArray[Any], past: NDArray[np.bool_]) -> Floats:
    """Return the scores on one of SCALES, each TMA by itself, and what the fit sees apart from what comes later."""
    found = np.empty(len(score))
    for which, seen in {*zip(assessment.tolist(), past.tolist(), strict=True)}:
        of = (assessment == which) & (past == seen)
        found[of] = SCALES[scale](score[of])
    return found


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


def judge(ask: Ask, presentation: str, scale: str = MARKS) -> Chances:
    """Fit the scores up to the cut, and put the chances beside the scores of the last TMA.

    Args:
        ask: posts a body to a path and returns the reply.
        presentation: one of `deadlines()`.
        scale: one of SCALES.

    """
    *_, (before, _), (due, last_id) = deadlines()[presentation]
    cut = (before + due) / 2
    read = _submissions()
    of = np.isin(read["id_assessment"], [assessment for _, assessment in deadlines()[presentation]])
    student, day, score, assessment = (
        read[name][of] for name in ("id_student", "date_submitted", "score", "id_assessment")
    )
    order = np.lexsort((student, day))
    student, day, score, assessment = student[order], day[order].astype(float), score[order], assessment[order]
    past = day <= cut
    score = on_scale(scale, score, assessment, past)
    later = ~past & (assessment == last_id) & np.isin(student, student[past])
    center, spread, goal = score[past].mean(), score[past].std(), np.median(score[past])
    rows: Columns = {
        "user_id": [str(one) for one in student[past]],
        "week": (day[past] / cut - 0.5).tolist(),
        "score": ((score[past] - center) / spread).tolist(),
    }
    draws = ask(FIT, {"engine": "marginal", "rows": rows})["draws"]
    asked = {"draws": draws, "students": sums(rows), "at": [due / cut - 0.5], "goal": (goal - center) / spread}
    reply = ask(PREDICT, asked)["predictions"]
    place = {user: at for at, user in enumerate(reply["user_id"])}
    picked = [place[str(one)] for one in student[later]]
    mean, sd, chance = (np.array(reply[name])[picked] for name in ("mean", "sd", "probability"))
    last = dict(zip(student[past], score[past] >= goal, strict=True))
    found = score[later]
    return Chances(
        chance,
        np.full(len(found), (score[past] >= goal).mean()),
        np.array([last[one] for one in student[later]], float),
        (found >= goal).astype(float),
        (np.abs((found - center) / spread - mean) <= stats.norm.ppf(0.975) * sd).astype(float),
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
        figure = Figure(figsize=(10.5, 4.3), layout="constrained")
        for axes, (title, seen) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
            axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfect")
            draw_bins(axes, seen.chance, seen.reached, "learners by P, with 95 % interval")
            axes.set(title=title, xlabel="P (predicted)", xlim=(0, 1.02), ylim=(0, 1.02))
        figure.axes[0].set_ylabel("share who reached the goal")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
