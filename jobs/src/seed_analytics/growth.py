"""Growth curves: the arithmetic before and after the sampler of score ~ week + (week | student)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seed_analytics.db import Columns

SUMS = ("n", "sw", "sww", "sy", "swy")
"""A learner's sufficient statistics: scores, and the sums of w, w^2, y and w y (w: scaled week, y: scaled score)."""


@dataclass(frozen=True)
class Scaling:
    """The sampler's units: w = (week - middle) / span, from -0.5 to 0.5; y = (score - center) / scale.

    Attributes:
        middle: the middle of the look-back, in weeks from its first.
        span: weeks from the first to the last.
        center: mean score.
        scale: standard deviation of the scores, above 0.

    """

    middle: float
    span: int
    center: float
    scale: float

    def at(self, horizon: int) -> list[float]:
        """Return every week of the look-back and `horizon` more, scaled."""
        return [(week - self.middle) / self.span for week in range(self.span + horizon + 1)]

    def weeks(self, scaled: Sequence[float]) -> list[float]:
        """Return weeks from the first, of scaled ones."""
        return [round(w * self.span + self.middle, 6) for w in scaled]

    def scores(self, scaled: Sequence[float]) -> list[float]:
        """Return scores in their own unit, of scaled ones."""
        return [y * self.scale + self.center for y in scaled]

    def spreads(self, scaled: Sequence[float]) -> list[float]:
        """Return standard deviations in the score's own unit, of scaled ones."""
        return [sd * self.scale for sd in scaled]


def patterns(students: Columns) -> tuple[Columns, float]:
    """Pool learners with the same design (n, sum w, sum w^2) through their sufficient statistics.

    Args:
        students: the columns of `SUMS` and syy (sum of y^2), one row a learner.

    Returns:
        Columns n_students, n, sw, sww, c0, c1, q00, q01, q11, one row a design: c sums (sy, swy) over its learners, q
        their products; and the sum of y^2 over all learners.

    """
    n, sw, sww, sy, swy, syy = (np.array(students[name], dtype=float) for name in (*SUMS, "syy"))
    # Sums of the same weeks in another order may differ in the last bits, so they are compared rounded.
    rounded = np.column_stack([n, sw.round(9), sww.round(9)])
    designs, first, which = np.unique(rounded, axis=0, return_index=True, return_inverse=True)

    def total(values: Any = None) -> list[Any]:
        summed: list[Any] = np.bincount(which.ravel(), weights=values, minlength=len(designs)).tolist()
        return summed

    columns = {name: sums[first].tolist() for name, sums in (("n", n), ("sw", sw), ("sww", sww))}
    columns |= {"n_students": total(), "c0": total(sy), "c1": total(swy)}
    return columns | {"q00": total(sy * sy), "q01": total(sy * swy), "q11": total(swy * swy)}, float(syy.sum())


def bands(scaling: Scaling, rows: Columns, band: Columns) -> list[dict[str, Any]]:
    """Return some learners' scores and the band expected of them, in the score's own unit and weeks from the first.

    Args:
        scaling: the units of what follows.
        rows: user_id, week, score, one row a score.
        band: user_id, at (week), mean, sd, one row a learner and week.

    """

    def of(columns: Columns, user: str, name: str) -> list[float]:
        return [value for value, owner in zip(columns[name], columns["user_id"], strict=True) if owner == user]

    return [
        {
            "user_id": user,
            "week": scaling.weeks(of(rows, user, "week")),
            "score": scaling.scores(of(rows, user, "score")),
            "band_week": scaling.weeks(of(band, user, "at")),
            "mean": scaling.scores(of(band, user, "mean")),
            "sd": scaling.spreads(of(band, user, "sd")),
        }
        for user in dict.fromkeys(band["user_id"])
    ]
