"""The section on survival: who may not come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seed_analytics.report import pictures
from seed_analytics.report.parts import Picture, Read, Section, Table, diagnostics, only, rows
from seed_analytics.report.words import (
    NONE,
    count,
    finite,
    moment,
    number,
    p_value,
    percent,
    sentences,
    shown,
    significant,
    things,
)
from seed_analytics.stages.gates import BRIER_COIN, CALIBRATION_SLOPE, PH_REMARK_P, all_alike

TABLES = ("analytics_runs", "survival_fit_meta", "survival_risk", "user_segments")
MOST = 20  # learners in the table of those at risk
THRESHOLD_DAYS = 14  # where the run does not say: the setting's default
BINS = 20
GOOD_CONCORDANCE = 0.7  # Hosmer, Lemeshow & Sturdivant, Applied Logistic Regression 2013, p. 177: acceptable

EMPTY = Section("fit-survival-churn", "survival", "Coming back", "Who may not come back?")


def section(read: Read) -> Section:
    """Return the section, without numbers where no run has published."""
    fit = only(read("survival"))
    if fit is None:
        return EMPTY
    threshold = float((fit["settings"] or {}).get("SURVIVAL_EVENT_THRESHOLD_DAYS", THRESHOLD_DAYS))
    bins = read("survival_risks")
    by_bin = dict(zip(bins["bin"], bins["learners"], strict=True))
    gone = by_bin.pop(0, 0)
    reachable = sum(by_bin.values())
    expected = sum(sum_ for place, sum_ in zip(bins["bin"], bins["expected"], strict=True) if place)
    holdout, ratios = fit["metrics"].get("holdout") or {}, _strongest_first(fit["hazard_ratios"])
    lead: list[Picture | Table] = [
        Picture(
            "How soon learners come back",
            f"After a visit, the line falls as learners return; where it meets the dashed line, "
            f"{threshold:g} days of silence are over and who is not back counts as gone.",
            pictures.survival_curve(fit["survival_curve"], threshold),
        ),
        Picture(
            "How large the risk is",
            f"Each bar counts learners; the further right, the likelier that they let {threshold:g} days pass. "
            f"{things(gone, 'learner')} who already did are not in the picture.",
            pictures.risk_histogram([by_bin.get(place, 0) for place in range(1, BINS + 1)]),
        ),
        Table(
            "Who is at risk now",
            f"The {MOST} learners who are most likely to stay away but can still be reached in time.",
            (
                ("Learner", ""),
                ("Risk", "of not coming back in time"),
                ("Away", "days since the last visit"),
                ("Segment", ""),
            ),
            [
                [
                    shown(row["user_id"]),
                    percent(row["risk"]),
                    count(row["days_away"]),
                    shown(row["segment_label"] or NONE),
                ]
                for row in rows(read("survival_at_risk", most=MOST))
            ],
            frozenset({1, 2}),
            wide=True,
        ),
    ]
    if holdout.get("bins"):
        scores = {"this model": holdout.get("brier"), "time away only": holdout.get("brier_gap_only")}
        scores["same chance for all"] = holdout.get("brier_base_rate")
        lead += [
            Picture(
                "Can the risk be trusted?",
                "In weeks that the model had not seen: dots on the dashed line mean that of learners with a predicted "
                "chance of, say, 70%, 70% did come back.",
                pictures.calibration(holdout["bins"]),
            ),
            Picture(
                "Is it better than guessing?",
                "How far the predictions were off in those weeks: the shorter the bar, the better.",
                pictures.brier({name: value for name, value in scores.items() if finite(value)}),
            ),
        ]
    if any(finite(ratio.get("hazard_ratio")) for ratio in ratios.values()):
        lead.append(
            Picture(
                "What goes with coming back sooner",
                "Right of the middle line: learners come back sooner; left of it: later. The bar is how sure that is; "
                "one that crosses the line may be nothing.",
                pictures.hazard_ratios(ratios),
            )
        )
    statistics = [diagnostics("The fit", _found(fit)), _coefficients(fit, ratios)]
    return replace(
        EMPTY,
        headline=f"Of {things(reachable, 'learner')} who can still be reached, about {count(expected)} will let "
        f"{threshold:g} days pass without a visit; {count(gone)} more already have.",
        lead=lead,
        statistics=statistics,
        verdict=sentences(fit["verdict"]),
        run_id=fit["run_id"],
        fitted=moment(fit["fitted_at"]),
    )


def _strongest_first(ratios: Mapping[str, Any]) -> dict[str, Any]:
    steps = {term: pictures.step_ratio(term, ratio.get("hazard_ratio")) for term, ratio in ratios.items()}
    return {term: ratios[term] for term in sorted(steps, key=lambda term: (-_strength(steps[term]), term))}


def _strength(ratio: float) -> float:
    return abs(math.log(ratio)) if math.isfinite(ratio) else -1.0


def _coefficients(fit: Mapping[str, Any], ratios: Mapping[str, Any]) -> Table:
    tests = fit["metrics"].get("ph_test") or {}
    return Table(
        "Hazard ratios and coefficients",
        "The event is the next visit: a hazard ratio above 1 means that learners come back sooner. Robust errors are "
        "by learner.",
        (
            ("Covariate", ""),
            ("Hazard ratio", "for the step"),
            ("95% interval", ""),
            ("Coefficient", "a step of 1"),
            ("Robust error", ""),
            ("p", ""),
            ("p, hazards proportional", ""),
        ),
        [
            [
                pictures.term_name(term),
                number(pictures.step_ratio(term, ratio.get("hazard_ratio"))),
                f"{number(pictures.step_ratio(term, ratio.get('lower')))} to "
                f"{number(pictures.step_ratio(term, ratio.get('upper')))}",
                number((fit["coefficients"].get(term) or {}).get("estimate"), 3),
                number((fit["coefficients"].get(term) or {}).get("robust_se"), 3),
                p_value((fit["coefficients"].get(term) or {}).get("p")),
                p_value((tests.get(term) or {}).get("p")),
            ]
            for term, ratio in ratios.items()
        ],
        frozenset(range(1, 7)),
        wide=True,
    )


def _found(fit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    metrics = fit["metrics"]
    holdout, likelihood = metrics.get("holdout") or {}, metrics.get("log_likelihood") or {}
    overall = ((metrics.get("ph_test") or {}).get("GLOBAL") or {}).get("p")
    found = [
        ("Model", "Cox", fit["formula"]),
        (
            "Visits",
            count(metrics.get("n")),
            f"{count(metrics.get('n_events'))} of them followed by another, {count(metrics.get('n_users'))} learners",
        ),
        ("Concordance", number(metrics.get("concordance"), 3), _order(metrics.get("concordance"))),
        (
            "Log-likelihood",
            significant(likelihood.get("model"), 6),
            f"{significant(likelihood.get('null'), 6)} without covariates",
        ),
        (
            "Proportional hazards, p",
            p_value(overall),
            f"{NONE} not tested"
            if not finite(overall)
            else "! ratios change with time since the visit: they are averages"
            if overall < PH_REMARK_P
            else "✓ no sign that the ratios change with time since the visit",
        ),
    ]
    if not holdout:
        return [*found, ("Held-out weeks", NONE, "too few later weeks to check the predictions on")]
    if who := all_alike(holdout):
        better = "✓ better" if holdout["brier"] <= BRIER_COIN else "! worse"
        brier = ("Held-out Brier score", number(holdout["brier"], 4), f"{better} than a coin's {BRIER_COIN:g}")
        return [*found, ("Held-out predictions", count(holdout.get("n")), f"{who} came back in time"), brier]
    slope, base = holdout.get("calibration_slope"), holdout.get("brier_base_rate")
    gain = 1 - holdout["brier"] / base if base else None
    low, high = CALIBRATION_SLOPE
    return [
        *found,
        ("Held-out predictions", count(holdout.get("n")), f"{percent(holdout.get('base_rate'))} came back in time"),
        ("Held-out concordance", number(holdout.get("concordance"), 3), _order(holdout.get("concordance"))),
        (
            "Held-out Brier score",
            number(holdout.get("brier"), 4),
            f"{number(base, 4)} with one chance for all, {number(holdout.get('brier_gap_only'), 4)} from the time away "
            f"alone: {'✓' if finite(gain) and gain > 0 else '!'} {percent(gain)} better than the base rate"
            if finite(gain) and gain > 0
            else f"! not better than the base rate's {number(base, 4)}",
        ),
        (
            "Calibration slope",
            number(slope),
            f"{'✓' if finite(slope) and low <= slope <= high else '!'} 1 is perfect, {low:g} to {high:g} is accepted; "
            f"intercept {number(holdout.get('calibration_intercept'))}",
        ),
    ]


def _order(concordance: Any) -> str:
    if not finite(concordance):
        return "not known"
    sign, word = ("✓", "good") if concordance >= GOOD_CONCORDANCE else ("✓", "modest")
    if concordance <= 0.5:  # noqa: PLR2004 - a coin's
        sign, word = "!", "no better than a coin"
    return f"{sign} of two learners, the model tells who comes back first in {percent(concordance)} of cases: {word}"
