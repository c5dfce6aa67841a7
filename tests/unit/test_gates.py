"""Gates at both sides of each threshold; verdicts are sentences."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
from seed_analytics.segments import Segments
from seed_analytics.settings import MODEL_STAGES
from seed_analytics.stages import gates, load
from support import ROOT


def irt_fit(**changes: Any) -> dict[str, Any]:
    items = 20
    fit = {
        "converged": True,
        "determined": True,
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
        "fit": {"reliability": 0.8, "n_dependent_pairs": 0},
        "linking": {"slope": 1.0, "drift": 0.1},
    }
    return fit | changes


def survival_fit(**holdout: Any) -> dict[str, Any]:
    return {
        "warnings": [],
        "separated": [],
        "ph_test": {"term": ["x", "GLOBAL"], "p": [0.4, 0.4]},
        "holdout": {
            "n": 200,
            "base_rate": 0.72,
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


def clustering(
    ari: float = 1.0, redrawn: float = 1.0, silhouette: float = 0.5, sizes: tuple[int, ...] = (60, 40)
) -> Segments:
    return Segments(
        features=("accuracy",),
        labels=("thriving", "steady")[: len(sizes)],
        assigned=np.repeat(np.arange(len(sizes)), sizes),
        centers=np.zeros((len(sizes), 1)),
        silhouette=silhouette,
        silhouette_by_k={2: silhouette},
        adjusted_rand_index=ari,
        redrawn_rand_index=redrawn,
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
        # Vehtari et al. 2021: R-hat above 1.01, or fewer than 400 effective draws, is not to be used.
        ("max_rhat", 1.01, 1.01 + 1e-9, "R-hat"),
        ("min_ess_bulk", 400, 400 - 1e-9, "bulk ESS"),
        ("min_ess_tail", 400, 400 - 1e-9, "tail ESS"),
        ("divergent", 0, 1, "divergent"),
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


def test_survival_refuses_separation() -> None:
    verdict = gates.survival(survival_fit() | {"separated": ["accuracy_28d"]})
    assert not verdict.accepted
    assert "accuracy_28d decides alone who comes back" in str(verdict)


@pytest.mark.parametrize(("p", "said"), [(gates.PH_REMARK_P, False), (gates.PH_REMARK_P * (1 - 1e-9), True)])
def test_survival_says_when_hazards_are_not_proportional(p: float, said: bool) -> None:
    fit = survival_fit()
    fit["ph_test"]["p"] = [p, 0.4]
    verdict = gates.survival(fit)
    assert verdict.accepted
    assert ("not proportional for x" in str(verdict)) is said


def test_survival_without_later_weeks_passes_and_says_so() -> None:
    verdict = gates.survival(survival_fit() | {"holdout": None})
    assert verdict.accepted
    assert "Too few later weeks" in str(verdict)


@pytest.mark.parametrize(("base_rate", "who"), [(1.0, "everybody"), (0.0, "nobody")])
@pytest.mark.parametrize(("brier", "accepted"), [(0.25, True), (0.25 + 1e-9, False)])
def test_survival_on_later_weeks_that_all_end_alike_is_to_beat_a_coin(
    base_rate: float, who: str, brier: float, accepted: bool
) -> None:
    # The base rate is then never wrong: no prediction that is made beforehand can be as good.
    alike = {"base_rate": base_rate, "brier": brier, "brier_base_rate": 0.0}
    verdict = gates.survival(survival_fit(**alike, concordance=None, calibration_slope=None))
    assert verdict.accepted is accepted
    assert f"On later weeks {who} came back" in str(verdict)


def test_survival_whose_predictions_are_all_the_same_is_judged_by_their_error() -> None:
    assert gates.survival(survival_fit(concordance=None, calibration_slope=None)).accepted
    assert not gates.survival(survival_fit(concordance=None, calibration_slope=None, brier=0.21)).accepted


@pytest.mark.parametrize(
    ("name", "words"), [("converged", "EM did not converge in 30"), ("determined", "not positive definite")]
)
def test_irt_without_a_maximum_is_refused_for_its_own_reason(name: str, words: str) -> None:
    [fault] = gates.irt(irt_fit(**{name: False})).faults
    assert words in fault


def test_reliability_at_the_threshold_orders_two_learners_as_its_comment_says() -> None:
    rng = np.random.default_rng(1)
    ability = rng.normal(size=(100_000, 2))
    noise = np.sqrt(1 / gates.RELIABILITY_MIN - 1)
    estimate = ability + noise * rng.normal(size=ability.shape)
    right = (np.diff(ability) * np.diff(estimate) > 0).mean()
    assert right == pytest.approx(0.5 + np.arcsin(np.sqrt(gates.RELIABILITY_MIN)) / np.pi, abs=0.006)
    assert round(100 * right) == pytest.approx(68, abs=1)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"fit": {"reliability": gates.RELIABILITY_MIN, "n_dependent_pairs": 0}}, True),
        ({"fit": {"reliability": gates.RELIABILITY_MIN - 1e-9, "n_dependent_pairs": 0}}, False),
        ({"linking": {"slope": gates.LINKING_SLOPE[0], "drift": 0}}, True),
        ({"linking": {"slope": gates.LINKING_SLOPE[0] - 1e-9, "drift": 0}}, False),
        ({"linking": {"slope": gates.LINKING_SLOPE[1], "drift": 0}}, True),
        ({"linking": {"slope": gates.LINKING_SLOPE[1] + 1e-9, "drift": 0}}, False),
        ({"linking": {"slope": 1, "drift": gates.LINKING_DRIFT_MAX}}, True),
        ({"linking": {"slope": 1, "drift": gates.LINKING_DRIFT_MAX + 1e-9}}, False),
        ({"linking": None}, True),
        ({"fit": {"reliability": None, "n_dependent_pairs": 0}}, True),
    ],
)
def test_irt_at_both_sides_of_each_threshold(changes: dict[str, Any], accepted: bool) -> None:
    verdict = gates.irt(irt_fit(**changes))
    assert verdict.accepted is accepted
    assert accepted or len(verdict.faults) == 1


@pytest.mark.parametrize(("left_out", "accepted"), [(20, True), (21, False)])
def test_irt_must_calibrate_half_of_the_items(left_out: int, accepted: bool) -> None:
    excluded = {"item_id": [f"x{n}" for n in range(left_out)], "reason": ["fewer than 30 answers"] * left_out}
    verdict = gates.irt(irt_fit(excluded=excluded))
    assert verdict.accepted is accepted
    assert accepted or "20 of 41 items could be calibrated: fewer than 30 answers" in str(verdict)


@pytest.mark.parametrize(("a", "said"), [(0.2, False), (0.2 - 1e-9, True), (4.0, False), (4.0 + 1e-9, True)])
def test_irt_names_items_with_an_odd_discrimination(a: float, said: bool) -> None:
    fit = copy.deepcopy(irt_fit())
    fit["items"]["a"][7] = a
    verdict = gates.irt(fit)
    assert verdict.accepted
    assert ("i7" in str(verdict)) is said


@pytest.mark.parametrize(
    ("se_b", "vague", "said"),
    [(gates.SE_B_MAX + 1e-9, 2, False), (gates.SE_B_MAX + 1e-9, 3, True), (gates.SE_B_MAX, 3, False)],
)
def test_irt_says_when_difficulties_are_hardly_known(se_b: float, vague: int, said: bool) -> None:
    fit = copy.deepcopy(irt_fit())
    fit["items"]["se_b"][:vague] = [se_b] * vague
    assert ("hardly known" in str(gates.irt(fit))) is said


def test_irt_says_which_items_are_left_out() -> None:
    left_out = {"item_id": ["i008", "i009"], "reason": ["all answers are right", "all answers are wrong"]}
    verdict = gates.irt(irt_fit(excluded=left_out))
    assert verdict.accepted
    assert "Items left out: 2 of 22 (i008, i009)" in str(verdict)


def test_irt_says_when_items_depend_on_each_other() -> None:
    verdict = gates.irt(irt_fit(fit={"reliability": 0.8, "n_dependent_pairs": 3}))
    assert verdict.accepted
    assert "Pairs of items that share more than ability explains (Q3): 3" in str(verdict)


@pytest.mark.parametrize(("redrawn", "said"), [(gates.STABILITY_MIN, False), (gates.STABILITY_MIN - 1e-9, True)])
def test_segments_say_when_other_learners_would_give_others(redrawn: float, said: bool) -> None:
    verdict = gates.segments(clustering(redrawn=redrawn))
    assert verdict.accepted
    assert ("drawn anew" in str(verdict)) is said


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


def test_a_forecast_that_is_certain_has_an_interval() -> None:
    assert gates.forecast(forecasts(lower=[0.2])).accepted


@pytest.mark.parametrize(("silhouette", "said"), [(gates.STRUCTURE_MIN, False), (gates.STRUCTURE_MIN - 1e-9, True)])
def test_segments_say_when_there_is_no_structure(silhouette: float, said: bool) -> None:
    verdict = gates.segments(clustering(silhouette=silhouette))
    assert verdict.accepted
    assert ("continuum" in str(verdict)) is said


def numbers_of(module: Any) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float | tuple) and value is not False
    }


def test_the_pages_of_the_models_name_every_threshold() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "models").glob("*.md"))
    assert [name for name in sorted(numbers_of(gates)) if f"`{name}`" not in pages] == []


PAGES = {
    "calibrate-irt-weekly": "irt",
    "cluster-segments": "segments",
    "fit-survival-churn": "survival",
    "forecast-prophet": "forecast",
    "fit-bayesian-growth": "growth",
}


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_the_page_of_a_model_names_the_least_that_its_stage_needs(stage: str) -> None:
    module = sys.modules[load(stage).extract.__module__]
    least = {name for name in numbers_of(module) if name.startswith("MIN_")}
    page = (ROOT / "docs" / "models" / f"{PAGES[stage]}.md").read_text()
    assert least
    assert [name for name in sorted(least) if f"`{name}`" not in page] == []
