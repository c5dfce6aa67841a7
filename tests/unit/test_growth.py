"""Growth: learners are pooled without loss, and the sampler's units lead back to weeks and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seed_analytics.growth import Scaling, patterns

SCALING = Scaling(middle=5.5, span=11, center=0.6, scale=0.2)
LEARNERS = st.lists(
    st.dictionaries(st.integers(0, 5), st.floats(-3, 3), min_size=1), min_size=1, max_size=30
)  # each learner's scores by week


def sums(learners: list[dict[int, float]]) -> dict[str, list[float]]:
    def of(power: int, scored: bool) -> list[float]:
        return [sum((week / 5) ** power * (y if scored else 1) for week, y in own.items()) for own in learners]

    syy = [sum(y * y for y in own.values()) for own in learners]
    named = {"n": of(0, False), "sw": of(1, False), "sww": of(2, False), "sy": of(0, True), "swy": of(1, True)}
    return named | {"syy": syy}


def likelihood(pooled: dict[str, list[Any]], sum_yy: float) -> float:
    """log p(y) up to a constant, for intercept and slope with sd 1 and .5, and noise 1 (Lindley & Smith 1972)."""
    total = -sum_yy / 2
    for row in zip(*(pooled[name] for name in ("n_students", "n", "sw", "sww", "q00", "q01", "q11")), strict=True):
        students, n, sw, sww, q00, q01, q11 = row
        precision = np.array([[n, sw], [sw, sww]]) + np.diag([1.0, 4.0])
        total += np.trace(np.linalg.solve(precision, [[q00, q01], [q01, q11]])) / 2
        total -= students * np.linalg.slogdet(precision)[1] / 2
    return float(total)


@given(LEARNERS)
def test_pooling_keeps_the_likelihood(learners: list[dict[int, float]]) -> None:
    each = [patterns(sums([own])) for own in learners]
    assert likelihood(*patterns(sums(learners))) == pytest.approx(sum(likelihood(*one) for one in each), abs=1e-8)


@given(LEARNERS)
def test_a_design_is_listed_once_and_every_learner_is_in_one(learners: list[dict[int, float]]) -> None:
    pooled, _ = patterns(sums(learners))
    designs = set(zip(pooled["n"], np.round(pooled["sw"], 9), np.round(pooled["sww"], 9), strict=True))
    assert len(designs) == len(pooled["n"])
    assert sum(pooled["n_students"]) == len(learners)


def test_weeks_of_the_look_back_run_from_minus_a_half_to_a_half_and_the_horizon_goes_on() -> None:
    at = SCALING.at(4)
    assert (at[0], at[11]) == (-0.5, 0.5)
    assert SCALING.weeks(at) == list(range(16))


def test_scores_and_spreads_come_back_in_their_own_unit() -> None:
    assert SCALING.scores([-1, 0, 2]) == pytest.approx([0.4, 0.6, 1.0])
    assert SCALING.spreads([0, 2]) == pytest.approx([0, 0.4])
