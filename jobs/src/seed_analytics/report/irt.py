"""The section on items: how hard and how telling each is, and how able the learners are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from seed_analytics.db import Columns
from seed_analytics.report import pictures
from seed_analytics.report.parts import Picture, Read, Section, Table, diagnostics, only, rows
from seed_analytics.report.words import (
    NONE,
    count,
    finite,
    listed,
    moment,
    number,
    percent,
    sentence,
    sentences,
    shown,
    significant,
    things,
)
from seed_analytics.stages.gates import SE_B_MAX

TABLES = ("analytics_runs", "irt_fit_meta", "irt_item_params", "irt_abilities")
MOST = 200  # items listed
BINS = 32  # of ability
HARD = 1.5  # difficulty, standard deviations of ability
WEAK, STRONG = 0.65, 1.35  # discrimination: Baker, The Basics of Item Response Theory 2001, p. 34
FIT = (0.7, 1.3)  # mean squares of items that behave: Wright & Linacre, Rasch Meas Trans 8:370 (1994)

EMPTY = Section(
    "calibrate-irt-weekly", "items", "Items and abilities", "How hard is each item, and how able are the learners?"
)


def section(read: Read) -> Section:
    """Return the section, without numbers where no run has published."""
    fit = only(read("irt"))
    if fit is None:
        return EMPTY
    items = rows(read("irt_items", run_id=fit["run_id"]))
    fitted = [item for item in items if item["status"] != "excluded"]
    left_out = [item for item in items if item["status"] == "excluded"]
    histogram = read("irt_abilities", run_id=fit["run_id"])
    lead: list[Picture | Table] = [*_pictures(fitted, histogram), *_tables(fitted, left_out, fit["run_id"])]
    headline = f"{things(len(fitted), 'item')} calibrated on {count(fit['n_responses'])} first answers of "
    headline += things(fit["n_users"], "learner")
    if fitted:
        headline += f"; the hardest is {shown(fitted[0]['item_id'])}, the easiest {shown(fitted[-1]['item_id'])}"
    if left_out:
        headline += f"; {things(len(left_out), 'item')} left out"
    spread = only(read("irt_spread", run_id=fit["run_id"])) or {}
    return replace(
        EMPTY,
        headline=headline + ".",
        lead=lead,
        statistics=[diagnostics("The calibration", _found(fit, fitted, spread))],
        verdict=sentences(fit["verdict"]),
        run_id=fit["run_id"],
        fitted=moment(fit["fitted_at"]),
    )


def _pictures(fitted: Sequence[Mapping[str, Any]], histogram: Columns) -> list[Picture]:
    if not fitted:
        return []
    a, b = [item["a"] for item in fitted], [item["b"] for item in fitted]
    by_bin = dict(zip(histogram["bin"], histogram["learners"], strict=True))
    telling = max(range(len(a)), key=lambda place: a[place])
    marked = {f"hardest: {shown(fitted[0]['item_id'], 16)}": 0}
    marked.setdefault(f"easiest: {shown(fitted[-1]['item_id'], 16)}", len(fitted) - 1)
    marked.setdefault(f"most telling: {shown(fitted[telling]['item_id'], 16)}", telling)
    return [
        Picture(
            "How hard each item is",
            "Each line is an item: the further right it rises, the harder; the steeper, the better it tells learners "
            "apart.",
            pictures.item_curves(a, b, marked),
        ),
        Picture(
            "Whom the items measure well",
            "Where the upper line is high and the lower one is low, the items measure ability well; at the edges they "
            "do not.",
            pictures.information(a, b),
        ),
        Picture(
            "Learners and items on one scale",
            "Learners far right are able, items far right are hard. Items suit the learners where both have bars.",
            pictures.abilities([by_bin.get(place, 0) for place in range(1, BINS + 1)], b),
        ),
    ]


def _tables(fitted: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, Any]], run_id: str) -> list[Table]:
    def kept(items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        # Both ends matter most: the hardest and the easiest.
        return items if len(items) <= MOST else [*items[: MOST // 2], *items[-MOST // 2 :]]

    def more(items: Sequence[Mapping[str, Any]], which: str) -> str:
        hidden = len(items) - MOST
        return (
            f" {which} of {count(len(items))} are shown; all are in irt_item_params, run {run_id}."
            if hidden > 0
            else ""
        )

    tables = []
    if left_out:
        tables.append(
            Table(
                "Items left out",
                "They have no difficulty yet, and this is why." + more(left_out, f"{MOST}"),
                (("Item", ""), ("Answers", ""), ("Right", ""), ("Why", "")),
                [
                    [
                        shown(i["item_id"]),
                        count(i["n_responses"]),
                        percent(i["p_correct"]),
                        sentence(i["reason"] or NONE),
                    ]
                    for i in left_out[:MOST]
                ],
                frozenset({1, 2}),
                wide=True,
            )
        )
    if fitted:
        tables.append(
            Table(
                "All items",
                "From the hardest to the easiest. Difficulty b is the ability at which half the learners are right; "
                "discrimination a is how sharply the item tells learners apart."
                + more(fitted, f"The {MOST // 2} hardest and {MOST // 2} easiest"),
                (
                    ("Item", ""),
                    ("Difficulty b", "± standard error"),
                    ("Discrimination a", "± standard error"),
                    ("Right", ""),
                    ("Answers", ""),
                    ("Infit", ""),
                    ("Outfit", ""),
                    ("In words", ""),
                ),
                [
                    [
                        shown(i["item_id"]),
                        f"{number(i['b'])} ± {number(i['se_b'])}",
                        f"{number(i['a'])} ± {number(i['se_a'])}",
                        percent(i["p_correct"]),
                        count(i["n_responses"]),
                        number(i["infit"]),
                        number(i["outfit"]),
                        item_words(i),
                    ]
                    for i in kept(fitted)
                ],
                frozenset(range(1, 7)),
                wide=True,
            )
        )
    return tables


def item_words(item: Mapping[str, Any]) -> str:
    """Say of an item how hard and how telling it is, and whether it behaves."""
    said = ["anchor"] if item["status"] == "anchor" else []
    said.append("hard" if item["b"] > HARD else "easy" if item["b"] < -HARD else "medium")
    if item["a"] < WEAK:
        said.append("! tells little")
    elif item["a"] > STRONG:
        said.append("tells much")
    if any(finite(item[key]) and not FIT[0] <= item[key] <= FIT[1] for key in ("infit", "outfit")):
        said.append("! answered unlike the model expects")
    return ", ".join(said)


def _found(
    fit: Mapping[str, Any], fitted: Sequence[Mapping[str, Any]], spread: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    metrics, linking = fit["metrics"], fit["linking"]
    own = metrics.get("fit") or {}
    share = own.get("reliability")
    errors = sorted(item["se_b"] for item in fitted if finite(item["se_b"]))
    middle = errors[len(errors) // 2] if errors else None
    parts = metrics.get("components")
    found = [
        ("Model", fit["model"], "marginal maximum likelihood over first answers"),
        (
            "Converged",
            "yes" if metrics.get("converged") else "no",
            f"{'✓' if metrics.get('converged') else '!'} after {things(metrics.get('n_iterations'), 'iteration')}",
        ),
        (
            "Log-likelihood",
            significant(fit["log_likelihood"], 7),
            f"AIC {significant(metrics.get('aic'), 7)}, BIC {significant(metrics.get('bic'), 7)}",
        ),
        (
            "Reliability of ability",
            number(share),
            "share of the differences between learners that is no error"
            + ("" if share is None else ": ✓ good" if share >= 0.8 else ": fair" if share >= 0.6 else ": ! poor"),  # noqa: PLR2004
        ),
        (
            "Median standard error of b",
            number(middle),
            ("! known poorly" if finite(middle) and middle > SE_B_MAX else "✓ known well enough")
            + f" (at most {SE_B_MAX})",
        ),
        ("Abilities", f"{number(spread.get('mean'))} ± {number(spread.get('sd'))}", "mean and standard deviation"),
    ]
    if finite(own.get("n_pairs")):
        pairs = [
            f"{shown(p['item_id_1'])} with {shown(p['item_id_2'])}" for p in rows(metrics.get("dependent_pairs") or {})
        ]
        found.append(
            (
                "Pairs that go together",
                f"{count(own.get('n_dependent_pairs'))} of {count(own['n_pairs'])}",
                f"! answered more alike than ability explains (Q3): {listed(pairs[:5])}"
                if pairs
                else "✓ no two items are answered more alike than ability explains (Q3)",
            )
        )
    if finite(parts):
        one = (
            "✓ every item can be compared with every other"
            if parts == 1
            else "! items of different parts cannot be compared"
        )
        found.append(("Connected parts of the log", count(parts), one))
    if linking:
        found.append(
            (
                "Linking",
                shown(linking.get("method", NONE)),
                f"{things(linking.get('n_anchors'), 'anchor item')}: slope {number(linking.get('slope'), 3)}, "
                f"intercept {number(linking.get('intercept'), 3)}, drift {number(linking.get('drift'), 2)}",
            )
        )
    else:
        found.append(("Linking", "none", "the scale is this run's own: mean 0, standard deviation 1"))
    return found
