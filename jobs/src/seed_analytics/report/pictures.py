"""The report's pictures: matplotlib draws, the page colours.

Every colour is drawn as a stand-in that becomes a CSS variable of the page, so that one drawing serves light and dark.
Pictures are drawn at 380 px with 12 px type: on a phone that is nearly their real size. The same data give the same
bytes. Colours follow Okabe & Ito's set, which colour-blind readers can tell apart; shape or position says the same.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from seed_analytics.db import Columns
from seed_analytics.report.words import MINUS, TERMS, count, floats, number, percent, shown, significant

WIDTH, HEIGHT, TYPE = 380, 260, 12  # px
PX = 1 / 72  # matplotlib's SVG has 72 px an inch

INK, MUTED, GRID, BLUE, RED, GREEN, ORANGE, PAPER = (f"#0102{place:02x}" for place in range(8))
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    BLUE: "var(--blue)",
    RED: "var(--red)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
    PAPER: "var(--paper)",
}
BAND = 0.22  # opacity of intervals

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": TYPE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": TYPE,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],  # measures; the page's own font, which is narrower, is what is shown
    "font.size": TYPE,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "legend.fontsize": TYPE,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.labelcolor": INK,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "seed-analytics",
    "text.color": INK,
    "text.parse_math": False,  # an id may hold dollar signs
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.major.pad": 7,
    "xtick.labelsize": TYPE,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": TYPE,
}


def picture(
    name: str, label: str, draw: Callable[..., None], *, height: int = HEIGHT, width: int = WIDTH, panels: int = 1
) -> Markup:
    """Draw and return an SVG element that can stand in a page beside others.

    Args:
        name: unique on the page; the ids inside begin with it.
        label: what the picture shows, for those who cannot see it.
        draw: draws on as many axes as there are panels, one above the other.
        height: of the drawing, px.
        width: of the drawing, px.
        panels: number of panels.

    """
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # An id in a script that matplotlib cannot measure: the reader's browser has a font for it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        layout = ConstrainedLayoutEngine(w_pad=3 * PX, h_pad=5 * PX)
        figure = Figure(figsize=(width * PX, height * PX), layout=layout)
        axes = figure.subplots(panels, squeeze=False, sharex=True)[:, 0]
        draw(*axes)
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            long = sum(map(len, labels)) + 5 * len(labels) > width / 7.5
            figure.legend(handles, labels, loc="outside lower left", ncols=1 if long and len(labels) < 3 else 2)  # noqa: PLR2004
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _inlined(written.getvalue(), name, label)


def _inlined(text: str, name: str, label: str) -> Markup:
    """Turn matplotlib's SVG file into an element: no namespaces, own ids, colours of the page, a label."""
    root = ElementTree.fromstring(text)  # noqa: S314 - matplotlib wrote it a line ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text, element.tail = (element.text or "").strip() or None, None
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            short = key.rpartition("}")[2]
            if short == "id" and value not in used:
                continue
            if short in {"style", "clip-path"}:
                value = re.sub(r"font-family:[^;]*;?\s*", "", value)  # noqa: PLW2901
                value = re.sub(r"#0102\w\w", lambda found: VARIABLES[found[0]], value)  # noqa: PLW2901
                value = value.replace("url(#", f"url(#{name}-")  # noqa: PLW2901
            elif short == "id":
                value = f"{name}-{value}"  # noqa: PLW2901
            elif short == "href":
                value = f"#{name}-{value[1:]}"  # noqa: PLW2901
            elif short == "d":
                value = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))  # noqa: PLW2901
            element.set(short, value)
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree escapes texts and attributes


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _whole_axis(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _bars(axes: Axes, edges: Sequence[float], heights: Sequence[float], color: str = BLUE) -> None:
    widths = np.diff(edges)
    axes.bar(edges[:-1], heights, width=widths * 0.92, align="edge", color=color)
    axes.grid(visible=False, axis="x")
    _whole_axis(axes.yaxis)


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal picture above them, where names of any length have room."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(names) - 0.45, -0.75)
    for row, name in enumerate(names):
        axes.annotate(
            name,
            (0, row - 0.28),
            xycoords=("axes fraction", "data"),
            va="bottom",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
        )


def _rows_height(rows: int) -> int:
    return 62 + 44 * rows


# Segments


def segment_sizes(labels: Sequence[str], sizes: Sequence[int]) -> Markup:
    """Draw a bar a segment: its number of learners."""
    total = sum(sizes) or 1
    shares = [f"{count(size)} ({percent(size / total)})" for size in sizes]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(sizes)), sizes, height=0.42, color=BLUE, align="center")
        _names(axes, [f"{shown(label, 24)}: {share}" for label, share in zip(labels, shares, strict=True)])
        axes.set_xlim(0, max(sizes, default=1) * 1.05 or 1)
        axes.set_xlabel("Learners")
        _whole_axis(axes.xaxis)
        axes.grid(visible=False, axis="y")

    said = "; ".join(f"{shown(label)} {share}" for label, share in zip(labels, shares, strict=True))
    return picture("segment-sizes", f"Learners by segment: {said}", draw, height=_rows_height(len(sizes)))


def silhouettes(by_k: Mapping[int, float], chosen: int) -> Markup:
    """Draw the silhouette of each number of segments that was tried."""

    def draw(axes: Axes) -> None:
        ks = sorted(by_k)
        axes.plot(ks, [by_k[k] for k in ks], "o-", color=MUTED, markersize=6)
        if chosen in by_k:
            axes.plot([chosen], [by_k[chosen]], "D", color=RED, markersize=10, label="chosen")
        axes.set_title(f"Mean silhouette ({MINUS}1 to 1)")
        axes.set_xlabel("Number of segments")
        axes.set_ylim(min(0.0, *by_k.values()), max(0.1, *by_k.values()) * 1.2)
        axes.set_xticks(ks)

    said = ", ".join(f"{k}: {number(value)}" for k, value in sorted(by_k.items()))
    return picture("segment-silhouettes", f"Mean silhouette by number of segments: {said}. Chosen: {chosen}", draw)


# Survival


def survival_curve(curve: Columns, threshold: float) -> Markup:
    """Draw the share of visits after which the learner has not come back yet, with its band."""
    day, survival = floats(curve["day"]), floats(curve["survival"])
    lower, upper = floats(curve.get("lower")), floats(curve.get("upper"))

    def draw(axes: Axes) -> None:
        if len(lower) == len(day) == len(upper):
            axes.fill_between(day, lower, upper, step="post", color=BLUE, alpha=BAND, linewidth=0, label="95% interval")
        axes.step(day, survival, where="post", color=BLUE, label="not back yet")
        axes.axvline(threshold, color=RED, linewidth=1.5, linestyle="--", label=f"{threshold:g} days: gone")
        axes.set_title("Not back yet, share of visits")
        axes.set_xlabel("Days since the visit")
        axes.set_ylim(0, 1)
        axes.set_xlim(0, min(max([*day, threshold]), 2 * threshold))
        _percent_axis(axes.yaxis)

    left = [s for d, s in zip(day, survival, strict=True) if d <= threshold]
    said = f"{percent(left[-1]) if left else 'an unknown share'} are not back after {threshold:g} days"
    return picture("survival-curve", f"Share of visits without a return by days since the visit: {said}", draw)


def hazard_ratios(ratios: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Draw the hazard ratio of each covariate's step with its interval, on a logarithmic axis."""
    steps = {term: [step_ratio(term, ratio.get(key)) for key in RATIO] for term, ratio in ratios.items()}
    drawn = {term_name(term): values for term, values in steps.items() if all(map(math.isfinite, values))}
    ratio, low, high = ([values[place] for values in drawn.values()] for place in range(3))

    def draw(axes: Axes) -> None:
        places = range(len(drawn))
        axes.hlines(places, low, high, color=BLUE, linewidth=3)
        axes.plot(ratio, places, "o", color=BLUE, markersize=9)
        axes.axvline(1, color=MUTED, linewidth=1.5)
        axes.set_xscale("log")
        reach = max([1.1, *high, *(1 / value for value in low)]) ** 1.1
        axes.set_xlim(1 / reach, reach)
        marks = _apart(reach)
        axes.set_xticks(marks, [significant(mark, 3 if mark > 1 else 2) for mark in marks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("Hazard ratio (below 1: later, above 1: sooner)")
        _names(axes, list(drawn))
        axes.grid(visible=False, axis="y")

    said = _said(list(drawn), low, ratio, high)
    return picture("hazard-ratios", f"Hazard ratios of coming back: {said}", draw, height=_rows_height(len(drawn)))


def _apart(reach: float) -> list[float]:
    """Return the ratios from 1 / `reach` to `reach` that an axis has room to name."""
    marks = [1.0]
    for side in (1, -1):
        last = 0.0
        for ratio in (1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100, 300, 1000):
            if ratio <= reach and math.log(ratio) - last >= math.log(reach) / 4:
                marks.append(ratio**side)
                last = math.log(ratio)
    return marks


RATIO = ("hazard_ratio", "lower", "upper")


def step_ratio(term: str, ratio: Any) -> float:
    """Return the hazard ratio for a covariate's telling step, from the one for a step of 1; NaN where there is none."""
    if not isinstance(ratio, int | float) or not ratio > 0:
        return math.nan
    step = TERMS.get(term, ("", "", 1.0))[2]
    return float(ratio ** (math.log(step) if term.startswith("log_") else step))


def term_name(term: str) -> str:
    """Return a covariate and the step that its effect is told for."""
    name, step, _ = TERMS.get(term, (shown(term), "one more", 1.0))
    return f"{name}: {step}"


def risk_histogram(learners: Sequence[int]) -> Markup:
    """Draw how many learners have which risk, from 0 to 1 in as many bins as there are numbers."""

    def draw(axes: Axes) -> None:
        _bars(axes, np.linspace(0, 1, len(learners) + 1).tolist(), learners)
        axes.set_title("Learners")
        axes.set_xlabel("Risk of not coming back in time")
        axes.set_xlim(0, 1)
        _percent_axis(axes.xaxis)

    half = sum(learners[len(learners) // 2 :])
    return picture("risks", f"Learners by risk: {count(half)} of {count(sum(learners))} have a risk above 50%", draw)


def calibration(bins: Columns) -> Markup:
    """Draw, for learners with similar predictions, how many did come back, with 95% Wilson intervals."""
    predicted, observed, n = (np.array(floats(bins[name])) for name in ("predicted", "observed", "n"))
    low, high = wilson(observed, n)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.5, linestyle="--", label="perfect")
        axes.vlines(predicted, low, high, color=BLUE, linewidth=2)
        axes.scatter(
            predicted,
            observed,
            s=20 + 130 * n / max(n.max(initial=1), 1),
            color=BLUE,
            label="observed, 95% interval",
            clip_on=False,
        )
        axes.set_title("Came back in time")
        axes.set_xlabel("Predicted chance of coming back in time")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        _percent_axis(axes.xaxis)
        _percent_axis(axes.yaxis)

    said = ", ".join(f"{percent(p)} predicted, {percent(o)} seen" for p, o in zip(predicted, observed, strict=True))
    return picture("calibration", f"Predicted and observed returns in held-out weeks: {said}", draw, height=300)


def wilson(share: Any, n: Any, z: float = 1.959964) -> tuple[Any, Any]:
    """Return the interval of a binomial share (Wilson, J Am Stat Assoc 22:209, 1927)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def brier(scores: Mapping[str, float]) -> Markup:
    """Draw a bar a way of predicting: its Brier score."""

    def draw(axes: Axes) -> None:
        values = list(scores.values())
        axes.barh(range(len(values)), values, height=0.42, color=[BLUE, *[MUTED] * (len(values) - 1)])
        _names(axes, [f"{name}: {number(value, 3)}" for name, value in scores.items()])
        axes.set_xlim(0, max(values) * 1.1 or 1)
        axes.set_xlabel("Brier score (0 is perfect)")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))

    said = "; ".join(f"{name} {number(value, 3)}" for name, value in scores.items())
    return picture("brier", f"Brier scores: {said}", draw, height=_rows_height(len(scores)))


# Forecast


def forecast(name: str, what: str, unit: str, history: Columns, ahead: Columns) -> Markup:
    """Draw what was seen and expected each week, the anomalies, and the weeks to come."""
    past, coming = ([date.fromisoformat(week).toordinal() for week in part["week_start"]] for part in (history, ahead))
    days = past + coming
    every = math.ceil(len(days) / 5)
    seen, odd = floats(history["value"]), [bool(flag) for flag in history["anomaly"]]

    def draw(axes: Axes) -> None:
        lower, upper = floats(history["lower"]), floats(history["upper"])
        axes.fill_between(past, lower, upper, color=MUTED, alpha=BAND, linewidth=0, label="expected")
        axes.fill_between(coming, floats(ahead["lower"]), floats(ahead["upper"]), color=BLUE, alpha=BAND, linewidth=0)
        axes.plot(coming, floats(ahead["yhat"]), "--", color=BLUE, label="forecast")
        axes.plot(past, seen, "o-", color=INK, markersize=5, linewidth=1.5, label="seen")
        at = [week for week, flag in zip(past, odd, strict=True) if flag]
        of = [value for value, flag in zip(seen, odd, strict=True) if flag]
        if at:
            axes.plot(
                at, of, "D", markersize=11, color=RED, fillstyle="none", markeredgewidth=2.5, label="not as expected"
            )
        axes.set_title(f"{shown(what)} ({unit})")
        axes.set_xlabel("Week beginning")
        axes.set_xticks(
            days[::every], [f"{date.fromordinal(day).day} {date.fromordinal(day):%b}" for day in days[::every]]
        )

    weeks = [week for week, flag in zip(history["week_start"], odd, strict=True) if flag]
    said = f"{len(past)} weeks seen, {len(coming)} forecast; not as expected: {', '.join(weeks) or 'none'}"
    return picture(name, f"{shown(what)} by week: {said}", draw, height=300)


# Growth


def chances(learners: Sequence[int]) -> Markup:
    """Draw how many learners have which chance of reaching the goal."""

    def draw(axes: Axes) -> None:
        _bars(axes, np.linspace(0, 1, len(learners) + 1).tolist(), learners, GREEN)
        axes.set_title("Learners")
        axes.set_xlabel("Chance of reaching the goal")
        axes.set_xlim(0, 1)
        _percent_axis(axes.xaxis)

    half = sum(learners[len(learners) // 2 :])
    return picture(
        "chances", f"Learners by chance of the goal: {count(half)} of {count(sum(learners))} have 50% or more", draw
    )


def posterior(summary: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> Markup:
    """Draw the median and the 90% interval of each population parameter, in scaled units."""
    words = [names.get(key, shown(key)) for key in summary]
    low, middle, high = (floats(row.get(quantile) for row in summary.values()) for quantile in ("q5", "q50", "q95"))

    def draw(axes: Axes) -> None:
        places = range(len(words))
        axes.hlines(places, low, high, color=BLUE, linewidth=3)
        axes.plot(middle, places, "o", color=BLUE, markersize=8)
        axes.axvline(0, color=MUTED, linewidth=1.5)
        axes.set_xlabel("Value, in standard deviations of the score")
        _names(axes, words)
        axes.grid(visible=False, axis="y")

    said = _said(words, low, middle, high)
    return picture("posterior", f"Posterior medians and 90% intervals: {said}", draw, height=_rows_height(len(words)))


def _said(words: Sequence[str], low: Sequence[float], middle: Sequence[float], high: Sequence[float]) -> str:
    rows = zip(words, low, middle, high, strict=True)
    return "; ".join(f"{name} {number(m)} ({number(lower)} to {number(upper)})" for name, lower, m, upper in rows)


def example(
    name: str,
    learner: Mapping[str, Any],
    goal: float,
    last: float,
    limits: tuple[float, float],
    *,
    title: str,
    share: bool,
) -> Markup:
    """Draw one learner's weekly scores and the band in which 90% of their scores are expected."""
    weeks, mean, sd = (np.array(floats(learner[key])) for key in ("band_week", "mean", "sd"))

    def draw(axes: Axes) -> None:
        axes.fill_between(weeks + 1, mean - Z90 * sd, mean + Z90 * sd, color=BLUE, alpha=BAND, linewidth=0)
        axes.plot(weeks + 1, mean, color=BLUE)
        axes.axvline(last + 1, color=MUTED, linewidth=1)
        axes.axhline(goal, color=GREEN, linewidth=1.5, linestyle="--")
        axes.plot(np.array(floats(learner["week"])) + 1, floats(learner["score"]), "o", color=INK, markersize=5)
        axes.set_ylim(*limits)
        axes.set_title(title)
        axes.set_xlabel("Week")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if share:
            _percent_axis(axes.yaxis)

    said = f"expected at the end {number(mean[-1])}, give or take {number(Z90 * sd[-1])}; the goal is {number(goal)}"
    return picture(name, f"Weekly scores of learner {shown(learner['user_id'])}: {said}", draw, height=200, width=300)


Z90 = 1.644854  # half-width of a normal 90% interval, standard deviations


# IRT

THETA = np.linspace(-4, 4, 161)
MOST_CURVES = 80  # item curves beyond which an evenly spaced choice is drawn


def curve(a: Any, b: Any) -> Any:
    """Return the chance of a right answer over THETA (Birnbaum's 2PL)."""
    return 1 / (1 + np.exp(-a * (THETA - b)))


def item_curves(a: Sequence[float], b: Sequence[float], marked: Mapping[str, int]) -> Markup:
    """Draw item characteristic curves; `marked` names those that stand out: words -> place in `a` and `b`."""
    chosen = np.unique(np.linspace(0, len(a) - 1, min(len(a), MOST_CURVES)).round().astype(int))

    def draw(axes: Axes) -> None:
        for place in chosen:
            axes.plot(THETA, curve(a[place], b[place]), color=MUTED, linewidth=0.8, alpha=0.5)
        for (words, place), (color, dash) in zip(
            marked.items(), ((RED, "-"), (GREEN, "--"), (BLUE, "-.")), strict=False
        ):
            axes.plot(THETA, curve(a[place], b[place]), dash, color=color, label=words, linewidth=2.5)
        axes.set_title("Chance of a right answer")
        axes.set_xlabel("Ability (standard deviations)")
        axes.set(xlim=(-4, 4), ylim=(0, 1))
        _percent_axis(axes.yaxis)

    said = "; ".join(f"{words}: difficulty {number(b[place])}" for words, place in marked.items())
    return picture(
        "item-curves", f"Chance of a right answer by ability, {count(len(a))} items. {said}", draw, height=300
    )


def information(a: Sequence[float], b: Sequence[float]) -> Markup:
    """Draw the information of all items together, and below it the standard error that it leaves."""
    total = np.zeros_like(THETA)
    for slope, place in zip(a, b, strict=True):
        right = curve(slope, place)
        total += slope**2 * right * (1 - right)
    error = 1 / np.sqrt(total)
    best = int(total.argmax())

    def draw(above: Axes, below: Axes) -> None:
        above.plot(THETA, total, color=BLUE)
        above.set_title("Test information")
        above.set_ylim(0)
        below.plot(THETA, error, color=RED)
        below.set_title("Standard error of ability, all items answered")
        below.set_xlabel("Ability (standard deviations)")
        below.set(xlim=(-4, 4), ylim=(0, min(float(error.max()), 4 * float(error.min())) * 1.1))
        for axes in (above, below):
            axes.yaxis.set_major_locator(MaxNLocator(3))

    said = f"highest {number(total[best], 1)} at ability {number(THETA[best], 1)}, standard error {number(error[best])}"
    return picture("information", f"Test information by ability: {said}", draw, height=300, panels=2)


def abilities(learners: Sequence[int], b: Iterable[float]) -> Markup:
    """Draw how many learners have which ability, in bins from -4 to 4, and below it how many items are that hard."""
    edges = np.linspace(-4, 4, len(learners) + 1)
    items, _ = np.histogram(np.clip(list(b), -4, 4), edges)

    def draw(above: Axes, below: Axes) -> None:
        _bars(above, edges.tolist(), learners)
        above.set_title("Learners by ability")
        _bars(below, edges.tolist(), items.tolist(), ORANGE)
        below.set_title("Items by difficulty")
        below.set_xlabel("Standard deviations")
        below.set_xlim(-4, 4)
        for axes in (above, below):
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))

    said = f"{count(sum(learners))} learners and {count(items.sum())} items on one scale from {MINUS}4 to 4"
    return picture("abilities", f"Learners by ability and items by difficulty: {said}", draw, height=300, panels=2)
