"""The section on growth: who will reach the goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import Any, Literal

from seed_analytics.report import pictures
from seed_analytics.report.parts import Picture, Read, Section, Table, diagnostics, only
from seed_analytics.report.words import (
    FEATURES,
    NONE,
    count,
    finite,
    floats,
    moment,
    number,
    percent,
    sentences,
    shown,
    significant,
    things,
)
from seed_analytics.settings import CLUSTER_FEATURES
from seed_analytics.stages.gates import DIVERGENT_MAX, ESS_MIN, RHAT_MAX

TABLES = ("analytics_runs", "brms_fit_meta", "weekly_kpi")
BINS = 20
HORIZON_WEEKS = 4  # where the run does not say: the setting's default
Unit = Literal["share", "standing", "number"]
"""What a score is: a share right, a normal score among the week's learners (BRMS_SCORE_SCALE), another KPI."""
PARAMETERS = {
    "b_Intercept": "mean score, mid-period",
    "b_week": "mean change, first to last week",
    "sd_Intercept": "how learners differ in score",
    "sd_week": "how learners differ in change",
    "cor": "score and change together (correlation)",
    "sigma": "week-to-week scatter",
}
"""Parameter of the population -> what it is."""

EMPTY = Section("fit-bayesian-growth", "growth", "Growth", "Who will reach the goal?")


def section(read: Read) -> Section:
    """Return the section, without numbers where no run has published."""
    fit = only(read("growth"))
    if fit is None:
        return EMPTY
    settings, scaling = fit["settings"] or {}, fit["diagnostics"].get("scaling") or {}
    source = settings.get("BRMS_SCORE_SOURCE", "accuracy")
    unit: Unit = "share" if source == "accuracy" else "number"
    if settings.get("BRMS_SCORE_SCALE") == "standing":
        unit = "standing"
    ahead = int(settings.get("BRMS_HORIZON_WEEKS", HORIZON_WEEKS))
    goal = score(scaling.get("goal"), unit)
    bins = read("growth_chances")
    by_bin = dict(zip(bins["bin"], bins["learners"], strict=True))
    learners = sum(by_bin.values())
    mean = sum(n * p for n, p in zip(bins["learners"], bins["mean"], strict=True)) / learners if learners else None
    lead: list[Picture | Table] = []
    if learners:
        lead.append(
            Picture(
                f"How likely the goal of {goal} is",
                f"Each bar counts learners; the further right, the likelier that their score reaches {goal} "
                f"{things(ahead, 'week')} from now.",
                pictures.chances([by_bin.get(place, 0) for place in range(1, BINS + 1)]),
            )
        )
    lead.append(
        Picture(
            "All learners together",
            "The dot is the best guess, the bar holds the truth with a probability of 90%. Right of the line: more, "
            "left of it: less.",
            pictures.posterior(parameters(fit["posterior_summary"]), PARAMETERS),
        )
    )
    lead += _examples(read, fit, unit, ahead)
    headline = _headline(fit, scaling, source, unit)
    if learners:
        headline += f" On average, {things(learners, 'learner')} have a chance of {percent(mean)} to reach {goal} in "
        headline += f"{things(ahead, 'week')}."
    return replace(
        EMPTY,
        headline=headline,
        lead=lead,
        statistics=[diagnostics("The chains", _found(fit)), _summary(fit)],
        verdict=sentences(fit["verdict"]),
        run_id=fit["run_id"],
        fitted=moment(fit["fitted_at"]),
    )


def score(value: Any, unit: Unit) -> str:
    """Return a score in its own unit: a share right in percent, a standing as the share of learners below it."""
    if unit == "standing" and finite(value):
        return f"a place above {percent(NormalDist().cdf(value))} of the week's learners"
    return percent(value) if unit == "share" else number(value)


def change(value: Any, unit: Unit) -> str:
    """Return a change of a score in its own unit."""
    return f"{number(100 * value, 2, sign=True)} points" if unit == "share" else number(value, 3, sign=True)


def _headline(fit: Mapping[str, Any], scaling: Mapping[str, Any], source: str, unit: Unit) -> str:
    name = FEATURES[{kpi: feature for feature, kpi in CLUSTER_FEATURES.items()}[source]][0].lower()
    if unit == "standing":
        return (
            f"Each learner's {name} is compared with that of the week's other learners: "
            "whether all improve is not seen."
        )
    slope = fit["posterior_summary"].get("b_week") or {}
    if not scaling.get("span") or not finite(slope.get("mean")):
        return "The population's growth is in the table below."
    weekly = scaling["scale"] / scaling["span"]
    mean, low, high = (change(slope[key] * weekly, unit) for key in ("mean", "q5", "q95"))
    return f"The average learner's {name} changes by {mean} a week (90% sure: {low} to {high})."


def parameters(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the posterior's parameters in the order of PARAMETERS, others last: jsonb keeps no order."""
    return {
        key: summary[key] for key in (*PARAMETERS, *(key for key in summary if key not in PARAMETERS)) if key in summary
    }


def _examples(read: Read, fit: Mapping[str, Any], unit: Unit, ahead: int) -> list[Picture | Table]:
    examples, scaling = fit["examples"], fit["diagnostics"].get("scaling") or {}
    if not examples or not finite(scaling.get("goal")):
        return []
    found = read("growth_examples", users=[learner["user_id"] for learner in examples])
    chance = dict(zip(found["user_id"], found["p"], strict=True))
    seen = [value for learner in examples for value in floats(learner["score"])]
    ends = [
        m + side * pictures.Z90 * s
        for learner in examples
        for m, s in zip(floats(learner["mean"]), floats(learner["sd"]), strict=True)
        for side in (-1, 1)
    ]
    low, high = min(seen + ends), max(seen + ends)
    air = 0.05 * (high - low)
    return [
        Picture(
            shown(learner["user_id"]),
            f"Chance of the goal: {percent(chance.get(learner['user_id']))}.",
            pictures.example(
                f"example-{place}",
                learner,
                scaling["goal"],
                scaling["span"],
                (low - air, high + air),
                title="Standing (0: the middle learner)" if unit == "standing" else "Score",
                share=unit == "share",
            ),
            "Dots are weekly scores; 9 of 10 should lie in the band. "
            f"Dashed: the goal of {score(scaling['goal'], unit)}. "
            f"Right of the grey line: the {things(ahead, 'week')} to come.",
        )
        for place, learner in enumerate(examples)
    ]


def _summary(fit: Mapping[str, Any]) -> Table:
    columns = ("mean", "sd", "q5", "q50", "q95", "rhat", "ess_bulk", "ess_tail")
    digits = dict.fromkeys(columns, 3) | {"ess_bulk": 0, "ess_tail": 0}
    return Table(
        "The posterior",
        "Scores are centred and scaled to a standard deviation of 1; the weeks read span 1.",
        (("Parameter", ""), *((name, "") for name in columns), ("prior", "")),
        [
            [
                f"{shown(key)}: {PARAMETERS[key]}" if key in PARAMETERS else shown(key),
                *(number(row.get(name), digits[name]) for name in columns),
                shown(fit["priors"].get(key, NONE), 60),
            ]
            for key, row in parameters(fit["posterior_summary"]).items()
        ],
        frozenset(range(1, 9)),
        wide=True,
    )


def _found(fit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    seen = fit["diagnostics"]
    scaling = seen.get("scaling") or {}
    rhat, divergent = seen.get("max_rhat"), seen.get("divergent")

    def ess(kind: str, what: str) -> tuple[str, str, str]:
        value = seen.get(f"min_ess_{kind}")
        fine = finite(value) and value >= ESS_MIN
        said = f"✓ enough draws for {what}" if fine else f"! too few draws for {what}"
        return (f"Smallest ess_{kind}", count(value), f"{said} (at least {ESS_MIN})")

    return [
        ("Model", f"{fit['engine']}, {seen.get('family', NONE)}", fit["formula"]),
        (
            "Draws",
            count(seen.get("n_draws")),
            f"{things(seen.get('n_chains'), 'chain')}, seed {seen.get('seed', NONE)}",
        ),
        (
            "Largest rhat",
            number(rhat, 4),
            f"✓ the chains agree (at most {RHAT_MAX})"
            if finite(rhat) and rhat <= RHAT_MAX
            else f"! the chains disagree (above {RHAT_MAX})",
        ),
        ess("bulk", "the middle of the posterior"),
        ess("tail", "its tails"),
        (
            "Divergent transitions",
            count(divergent),
            "✓ the sampler went everywhere"
            if finite(divergent) and divergent <= DIVERGENT_MAX
            else "! the sampler could not follow the posterior",
        ),
        ("Hits of the largest tree depth", count(seen.get("max_treedepth_hits")), "a matter of speed only"),
        (
            "Score",
            f"{significant(scaling.get('center'))} ± {significant(scaling.get('scale'))}",
            "mean and standard deviation",
        ),
    ]
