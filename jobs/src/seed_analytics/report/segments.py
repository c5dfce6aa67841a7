"""The section on segments: which learners are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seed_analytics.report import pictures
from seed_analytics.report.parts import Cell, Picture, Read, Section, Table, diagnostics, only
from seed_analytics.report.words import (
    FEATURES,
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
from seed_analytics.stages.gates import STABILITY_MIN, STRUCTURE_MIN

TABLES = ("analytics_runs", "cluster_fit_meta", "user_segments")
TELLING = 0.4  # standard deviations from the mean that words are spent on
MOST_WORDS = 3  # features named a segment
FULL_TONE = 1.5  # standard deviations at which a cell has its full colour

EMPTY = Section("cluster-segments", "segments", "Segments", "Which learners are alike?")


def section(read: Read) -> Section:
    """Return the section, without numbers where no run has published."""
    fit = only(read("segments"))
    if fit is None:
        return EMPTY
    spread = read("segments_spread", run_id=fit["run_id"])
    scale = dict(zip(spread["feature"], zip(spread["mean"], spread["sd"], strict=True), strict=True))
    centers, metrics = fit["centers"], fit["metrics"]
    labels, sizes = [c["label"] for c in centers], [c["size"] for c in centers]
    total = sum(sizes)
    lead: list[Picture | Table] = [
        Picture(
            "How many learners are in each segment",
            "Each bar is a group of learners who learn alike; the longer the bar, the more learners.",
            pictures.segment_sizes(labels, sizes),
        ),
        Table(
            "What the learners of each segment are like",
            "Compared with the average learner of all segments.",
            (("Segment", ""), ("Learners", ""), ("In words", "")),
            [[shown(c["label"]), count(c["size"]), in_words(c["center"], scale)] for c in centers],
            frozenset({1}),
        ),
        _centres(fit["features"], centers, scale),
    ]
    by_k = {int(k): float(value) for k, value in (metrics.get("silhouette_by_k") or {}).items() if finite(value)}
    statistics: list[Picture | Table] = [diagnostics("The clustering", _found(fit))]
    if len(by_k) > 1:
        statistics.append(
            Picture(
                "Why this number of segments",
                "The higher the point, the clearer the learners fall apart into so many groups.",
                pictures.silhouettes(by_k, fit["n_clusters"]),
            )
        )
    largest = f"the largest is “{shown(labels[0])}” with {percent(sizes[0] / total)} of them" if total else ""
    return replace(
        EMPTY,
        headline=f"{things(total, 'learner')} fall into {things(len(centers), 'segment')}; {largest}.",
        lead=lead,
        statistics=statistics,
        verdict=sentences(fit["verdict"]),
        run_id=fit["run_id"],
        fitted=moment(fit["fitted_at"]),
    )


def standardised(feature: str, value: Any, scale: Mapping[str, tuple[float | None, float | None]]) -> float:
    """Return how many standard deviations a centre lies above the mean learner; 0 where that is not known."""
    mean, sd = scale.get(feature, (None, None))
    return (value - mean) / sd if finite(value) and mean is not None and sd else 0.0


def in_words(center: Mapping[str, Any], scale: Mapping[str, tuple[float | None, float | None]]) -> str:
    """Say what tells a segment's centre most from the average learner."""
    z = {feature: standardised(feature, value, scale) for feature, value in center.items()}
    telling = sorted((f for f in z if abs(z[f]) >= TELLING), key=lambda f: -abs(z[f]))[:MOST_WORDS]
    phrases = []
    for feature in telling:
        _, _, more, less = FEATURES.get(feature, ("", "", f"more {shown(feature)}", f"less {shown(feature)}"))
        phrases.append(more if z[feature] > 0 else less)
    return sentence(listed(phrases) or "close to the average learner in everything")


def _centres(features: list[str], centers: list[dict[str, Any]], scale: Mapping[str, Any]) -> Table:
    rows: list[list[str | Cell]] = []
    for feature in features:
        cells: list[str | Cell] = [shown(FEATURES.get(feature, (feature,))[0])]
        for center in centers:
            value = center["center"].get(feature)
            z = standardised(feature, value, scale)
            sign = "" if abs(z) < TELLING else "▲" if z > 0 else "▼"
            cells.append(Cell(significant(value), max(-1.0, min(1.0, z / FULL_TONE)), sign))
        mean, _ = scale.get(feature, (None, None))
        rows.append([*cells, significant(mean)])
    units = {feature: FEATURES.get(feature, ("", ""))[1] for feature in features}
    for row, feature in zip(rows, features, strict=True):
        row[0] = f"{row[0]} ({units[feature]})" if units[feature] else row[0]
    return Table(
        "The centre of each segment",
        "The middle of each group, each row in its own unit. ▲ and orange: clearly above the average learner; "
        "▼ and blue: clearly below.",
        (("Feature", ""), *((shown(center["label"]), "") for center in centers), ("All learners", "")),
        rows,
        frozenset(range(1, len(centers) + 2)),
        wide=True,
    )


def _found(fit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    metrics = fit["metrics"]
    silhouette, rand = metrics.get("silhouette"), metrics.get("adjusted_rand_index")
    if not finite(silhouette):
        apart = "one segment only: nothing to tell apart"
    elif silhouette < STRUCTURE_MIN:
        apart = f"! below {STRUCTURE_MIN}: the learners form one continuum more than groups"
    elif silhouette < 0.5:  # noqa: PLR2004 - Kaufman & Rousseeuw 1990, p. 88
        apart = "✓ the groups are real, but they touch"
    else:
        apart = "✓ the groups stand well apart"
    stable = (
        f"✓ other starts give the same groups (at least {STABILITY_MIN})"
        if finite(rand) and rand >= STABILITY_MIN
        else f"! other starts give other groups (below {STABILITY_MIN})"
    )
    dropped = [f"{shown(name)} ({why})" for name, why in (metrics.get("dropped") or {}).items()]
    return [
        ("Method", f"{fit['method']}, k = {fit['n_clusters']}", "on standardised features"),
        ("Silhouette", number(silhouette), apart),
        ("Adjusted Rand index over seeds", number(rand), stable),
        (
            "Inertia",
            significant(metrics.get("inertia"), 4),
            "within-cluster sum of squares of the standardised features",
        ),
        ("Features left out", count(len(dropped)), ", ".join(dropped) or "none"),
    ]
