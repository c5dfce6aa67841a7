"""Gates at both sides of each threshold; verdicts are sentences."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from seed_analytics.segments import Segments
from seed_analytics.stages import gates


def irt_fit(**changes: Any) -> dict[str, Any]:
    items = 20
    fit = {
        "converged": True,
        "n_iterations": 30,
        "warnings": [],
        "items": {
            "item_id": [f"i{n}" for n in range(items)],
            "a": [1.0] * items,
            "se_a": [0.1] * items,
            "se_b": [0.2] * items,
            "status": ["fitted"] * items,
        },
        "excluded": {"item_id": [], "reason": []},
    }
    return fit | changes


def survival_fit(**holdout: Any) -> dict[str, Any]:
    return {
        "warnings": [],
        "hazard_ratios": {"term": ["x"], "hazard_ratio": [1.5]},
        "ph_test": {"term": ["x", "GLOBAL"], "p": [0.4, 0.4]},
        "holdout": {
            "concordance": 0.7,
            "calibration_slope": 1.0,
            "brier": 0.10,
            "brier_base_rate": 0.20,
        }
        | holdout,
    }


def growth_fit(**diagnostics: Any) -> dict[str, Any]:
    seen = {"max_rhat": 1.002, "min_ess_bulk": 900, "min_ess_tail": 800, "divergent": 0}
    return {"warnings": [], "diagnostics": seen | diagnostics}


def clustering(ari: float = 1.0, silhouette: float = 0.5, sizes: tuple[int, ...] = (60, 40)) -> Segments:
    return Segments(
        features=("accuracy",),
        labels=("thriving", "steady")[: len(sizes)],
        assigned=np.repeat(np.arange(len(sizes)), sizes),
        centers=np.zeros((len(sizes), 1)),
        silhouette=silhouette,
        silhouette_by_k={2: silhouette},
        adjusted_rand_index=ari,
        inertia=1.0,
    )


def forecasts(**ahead: Any) -> list[dict[str, Any]]:
    return [{"metric": "I_t", "warnings": [], "forecast": {"yhat": [0.1], "lower": [0.0], "upper": [0.2]} | ahead}]


@pytest.mark.parametrize(
    "verdict",
    [
        gates.irt(irt_fit()),
        gates.survival(survival_fit()),
        gates.growth(growth_fit()),
        gates.segments(clustering()),
        gates.forecast(forecasts()),
    ],
    ids=["irt", "survival", "growth", "segments", "forecast"],
)
def test_a_good_fit_passes_and_says_so(verdict: Any) -> None:
    assert verdict.accepted
    assert str(verdict) == "The fit passed its gate."


@pytest.mark.parametrize(
    ("name", "passes", "fails", "word"),
    [
        ("max_rhat", gates.RHAT_MAX, gates.RHAT_MAX + 1e-9, "R-hat"),
        ("min_ess_bulk", gates.ESS_MIN, gates.ESS_MIN - 1e-9, "bulk ESS"),
        ("min_ess_tail", gates.ESS_MIN, gates.ESS_MIN - 1e-9, "tail ESS"),
        ("divergent", gates.DIVERGENT_MAX, gates.DIVERGENT_MAX + 1, "divergent"),
    ],
)
def test_growth_at_both_sides_of_each_threshold(name: str, passes: float, fails: float, word: str) -> None:
    assert gates.growth(growth_fit(**{name: passes})).accepted
    refused = gates.growth(growth_fit(**{name: fails}))
    assert not refused.accepted
    assert word in str(refused)


@pytest.mark.parametrize("name", ["max_rhat", "min_ess_bulk", "min_ess_tail"])
def test_growth_without_a_diagnostic_is_refused(name: str) -> None:
    assert not gates.growth(growth_fit(**{name: None})).accepted


@pytest.mark.parametrize(
    ("name", "passes", "fails", "word"),
    [
        ("concordance", gates.CONCORDANCE_MIN, gates.CONCORDANCE_MIN - 1e-9, "coin"),
        ("calibration_slope", gates.CALIBRATION_SLOPE[0], gates.CALIBRATION_SLOPE[0] - 1e-9, "calibrated"),
        ("calibration_slope", gates.CALIBRATION_SLOPE[1], gates.CALIBRATION_SLOPE[1] + 1e-9, "calibrated"),
        ("brier", 0.20, 0.20 + 1e-9, "base rate"),
    ],
)
def test_survival_at_both_sides_of_each_threshold(name: str, passes: float, fails: float, word: str) -> None:
    assert gates.survival(survival_fit(**{name: passes})).accepted
    refused = gates.survival(survival_fit(**{name: fails}))
    assert not refused.accepted
    assert word in str(refused)


@pytest.mark.parametrize(
    ("ratio", "accepted"),
    [
        (gates.HAZARD_RATIO_MAX, True),
        (gates.HAZARD_RATIO_MAX * 1.01, False),
        (1 / gates.HAZARD_RATIO_MAX, True),
        (0.99 / gates.HAZARD_RATIO_MAX, False),
        (None, False),
    ],
)
def test_survival_refuses_separation(ratio: float | None, accepted: bool) -> None:
    fit = survival_fit()
    fit["hazard_ratios"]["hazard_ratio"] = [ratio]
    assert gates.survival(fit).accepted is accepted


def test_survival_says_when_hazards_are_not_proportional() -> None:
    fit = survival_fit()
    fit["ph_test"]["p"] = [gates.PH_REMARK_P / 2, 0.4]
    verdict = gates.survival(fit)
    assert verdict.accepted
    assert "not proportional for x" in str(verdict)


def test_survival_without_later_weeks_passes_and_says_so() -> None:
    verdict = gates.survival(survival_fit() | {"holdout": None})
    assert verdict.accepted
    assert "Too few later weeks" in str(verdict)


def test_irt_that_did_not_converge_is_refused() -> None:
    assert "did not converge" in str(gates.irt(irt_fit(converged=False)))
    assert not gates.irt(irt_fit(converged=False)).accepted


@pytest.mark.parametrize(("odd", "accepted"), [(2, True), (3, False)])
def test_irt_refuses_more_than_a_tenth_of_odd_items(odd: int, accepted: bool) -> None:
    fit = copy.deepcopy(irt_fit())
    fit["items"]["a"][:odd] = [gates.ITEM_RANGE[1] + 0.01] * odd
    verdict = gates.irt(fit)
    assert verdict.accepted is accepted
    assert "i0" in str(verdict)


def test_irt_without_any_item_is_refused() -> None:
    none = {name: [] for name in irt_fit()["items"]}
    assert not gates.irt(irt_fit(items=none)).accepted


def test_irt_without_standard_errors_is_refused() -> None:
    fit = copy.deepcopy(irt_fit())
    fit["items"]["se_b"][3] = None
    assert "standard errors" in str(gates.irt(fit))


@pytest.mark.parametrize(("left_out", "said"), [(20, False), (21, True)])
def test_irt_says_when_most_items_are_left_out(left_out: int, said: bool) -> None:
    excluded = {"item_id": [f"x{n}" for n in range(left_out)], "reason": ["too few"] * left_out}
    assert ("could not be calibrated" in str(gates.irt(irt_fit(excluded=excluded)))) is said


@pytest.mark.parametrize(("ari", "accepted"), [(gates.STABILITY_MIN, True), (gates.STABILITY_MIN - 1e-9, False)])
def test_segments_must_be_stable(ari: float, accepted: bool) -> None:
    assert gates.segments(clustering(ari=ari)).accepted is accepted


@pytest.mark.parametrize(("small", "said"), [(1, False), (0.99, True)])
def test_segments_say_when_one_is_tiny(small: float, said: bool) -> None:
    # one learner of 100 is one per cent; one of 101 is less
    sizes = (99, 1) if small == 1 else (100, 1)
    assert ("less than 1%" in str(gates.segments(clustering(sizes=sizes)))) is said


@pytest.mark.parametrize(
    ("ahead", "word"),
    [
        ({"yhat": []}, "without a value"),
        ({"yhat": [None]}, "without a value"),
        ({"upper": [None]}, "without a value"),
        ({"lower": [0.3]}, "upside down"),
    ],
)
def test_forecast_must_have_values_and_an_interval(ahead: dict[str, Any], word: str) -> None:
    verdict = gates.forecast(forecasts(**ahead))
    assert not verdict.accepted
    assert word in str(verdict)


@pytest.mark.parametrize(("silhouette", "said"), [(gates.STRUCTURE_MIN, False), (gates.STRUCTURE_MIN - 1e-9, True)])
def test_segments_say_when_there_is_no_structure(silhouette: float, said: bool) -> None:
    verdict = gates.segments(clustering(silhouette=silhouette))
    assert verdict.accepted
    assert ("continuum" in str(verdict)) is said
