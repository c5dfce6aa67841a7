"""The report's words, pictures and page, without a database."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_page import Page
from seed_analytics import report
from seed_analytics.report import pictures, runs, segments, survival, words
from seed_analytics.report.parts import Cell, Picture, Section, Table

NOW = datetime(2025, 11, 3, 7, 15, tzinfo=UTC)
MINUS, NONE = words.MINUS, words.NONE


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (words.number(1234.567), "1,234.57"),
        (words.number(-0.001), "0.00"),
        (words.number(-1.5), f"{MINUS}1.50"),
        (words.number(1.5, 1, sign=True), "+1.5"),
        (words.number(math.nan), NONE),
        (words.number(None), NONE),
        (words.number(True), NONE),
        (words.significant(0.0340), "0.034"),
        (words.significant(12.345), "12.3"),
        (words.significant(70100.24), "70,100"),
        (words.significant(0), "0"),
        (words.significant(100.0), "100"),
        (words.percent(0.456), "46%"),
        (words.percent(0.0001), "<1%"),
        (words.percent(0.9999), ">99%"),
        (words.percent(0), "0%"),
        (words.percent(1), "100%"),
        (words.percent(0.9876, 1), "98.8%"),
        (words.p_value(0.00001), "<0.001"),
        (words.p_value(0.25), "0.250"),
        (words.things(1, "learner"), "1 learner"),
        (words.things(1200, "learner"), "1,200 learners"),
        (words.duration(0.0004), "<0.01 s"),
        (words.duration(12.34), "12.3 s"),
        (words.duration(125), "2 min 5 s"),
        (words.duration(7260), "2 h 1 min"),
        (words.ago(NOW - timedelta(seconds=30), NOW), "just now"),
        (words.ago(NOW - timedelta(minutes=119), NOW), "2 hours ago"),
        (words.ago(NOW - timedelta(hours=50), NOW), "2 days ago"),
        (words.ago(NOW + timedelta(hours=5), NOW), "just now"),
        (words.ago(None, NOW), "never"),
        (words.moment(NOW), "3 Nov 2025, 07:15 UTC"),
        (words.day("2025-11-03"), "3 Nov 2025"),
        (words.listed(["a"]), "a"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed([]), ""),
        (words.sentence("it ended well"), "It ended well."),
        (words.sentences("I_t: simpler one.; weak; "), "I_t: simpler one. Weak."),
        (words.sentences(None), ""),
        (words.flat({"python": "3.11", "packages": {"survival": "3.5"}}), [("python", "3.11"), ("survival", "3.5")]),
        (words.shown("a\x00b\u202ec"), "a\ufffdb\ufffdc"),
        (words.shown("x" * 50), "x" * 39 + "…"),
    ],
)
def test_a_value_is_said_so(said: Any, wanted: Any) -> None:
    assert said == wanted


@given(st.floats() | st.integers() | st.none())
def test_any_number_has_words(value: Any) -> None:
    for say in (words.number, words.significant, words.percent, words.p_value, words.count, words.duration):
        assert say(value)
        assert "nan" not in say(value)
        assert "inf" not in say(value)


@given(st.floats(0, 1))
@example(0.005)
@example(0.995)
def test_a_percentage_is_none_or_all_only_where_it_is(share: float) -> None:
    assert (words.percent(share) == "0%") == (share == 0)
    assert (words.percent(share) == "100%") == (share == 1)


@pytest.mark.parametrize(
    ("seen", "n", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_newcombe(seen: int, n: int, lower: float, upper: float) -> None:
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3
    found = pictures.wilson(np.array([seen / n]), np.array([n]))
    assert [float(side[0]) for side in found] == pytest.approx([lower, upper], abs=5e-5)


def test_a_hazard_ratio_is_told_for_a_telling_step() -> None:
    assert pictures.step_ratio("log_previous_gap", math.e) == pytest.approx(2)  # doubling
    assert pictures.step_ratio("accuracy_28d", 2**10) == pytest.approx(2)  # a tenth
    assert pictures.step_ratio("unknown", 1.7) == 1.7
    assert math.isnan(pictures.step_ratio("unknown", None))
    assert pictures.term_name("unknown") == "unknown: one more"


def test_every_covariate_of_the_survival_stage_has_words() -> None:
    from seed_analytics.stages.fit_survival_churn import COVARIATES

    assert set(COVARIATES) == set(words.TERMS)


def test_every_feature_and_metric_has_words() -> None:
    from seed_analytics.report import forecast
    from seed_analytics.settings import CLUSTER_FEATURES, KPI_KEYS

    assert set(CLUSTER_FEATURES) == set(words.FEATURES)
    assert set(KPI_KEYS) == set(forecast.NAMES)


def test_an_item_is_answered_right_by_half_of_those_as_able_as_it_is_hard() -> None:
    at = int(np.abs(pictures.THETA - 1.5).argmin())
    assert pictures.curve(1.7, 1.5)[at] == pytest.approx(0.5)


def test_a_segment_is_told_by_what_sets_it_apart_most() -> None:
    scale = {"engagement": (0.5, 0.1), "accuracy": (0.6, 0.1), "sessions": (10, 4), "x<y": (0, 1)}
    center = {"engagement": 0.8, "accuracy": 0.45, "sessions": 10.5, "x<y": None}
    assert segments.in_words(center, scale) == "More engaged and less accurate."
    assert segments.in_words({"engagement": 0.5}, scale) == "Close to the average learner in everything."
    assert segments.in_words({"engagement": 0.9}, {}) == "Close to the average learner in everything."


@pytest.mark.parametrize(
    ("concordance", "word"), [(0.8, "good"), (0.6, "modest"), (0.5, "no better than a coin"), (None, "not known")]
)
def test_concordance_is_said_in_words(concordance: float | None, word: str) -> None:
    assert survival._order(concordance).endswith(word)


def card(**row: Any) -> runs.Card:
    never = dict.fromkeys(
        [
            "run_id",
            "status",
            "reason",
            "as_of",
            "rows_read",
            "rows_written",
            "timings",
            "versions",
            "started_at",
            "finished_at",
            "published_run_id",
            "published_at",
            "published_as_of",
            "well_at",
        ]
    )
    return runs.card(never | {"stage": "fit-survival-churn"} | row, NOW)


def test_a_stage_that_never_ran_says_so() -> None:
    assert card().words == "has not run yet"


def test_a_stage_is_stale_when_nothing_was_published_within_its_schedule() -> None:
    then = {"run_id": "a", "status": "succeeded", "started_at": NOW, "timings": {}, "versions": {}}
    assert card(**then, well_at=NOW - timedelta(hours=47)).tone == "good"
    assert card(**then, well_at=NOW - timedelta(hours=49)).tone == "warn"
    failed = card(**(then | {"status": "failed"}), well_at=NOW - timedelta(hours=49))
    assert failed.tone == "bad"
    assert ("stale", "nothing new was published in 2 days") in failed.facts


def example(user: str = "learner", name: str = "example") -> str:
    learner = {
        "user_id": user,
        "week": [0, 1],
        "score": [0.4, None],
        "band_week": [0, 1, 2],
        "mean": [0.4, 0.5, 0.6],
        "sd": [0.1] * 3,
    }
    return str(pictures.example(name, learner, 0.5, 1, (0, 1), title="Score", share=True))


def test_a_picture_twice_is_the_same_and_two_pictures_share_no_id() -> None:
    assert example() == example()
    ids = [re.findall(r'\bid="([^"]+)"', example(name=name)) for name in ("one", "two")]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])


def test_a_picture_takes_its_colours_from_the_page() -> None:
    found = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", example()))
    assert found <= {"none", *pictures.VARIABLES.values()}
    defined = set(re.findall(r"(--[a-z]+):", files(report).joinpath("page.css").read_text(encoding="utf-8")))
    assert {variable[4:-1] for variable in pictures.VARIABLES.values()} <= defined


def test_a_pictures_text_is_large_enough_on_a_phone() -> None:
    svg = Xml.fromstring(str(pictures.risk_histogram([3, 2, 1])))  # noqa: S314 - our own
    width = float((svg.get("viewBox") or "").split()[2])
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", Xml.tostring(svg, encoding="unicode"))]
    assert sizes
    assert min(sizes) * 358 / width >= 11  # px, on a screen of 390 px with margins of 16


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=60) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "]]></svg>",
        "$x^$",
        "\\frac",
        '" onload="x',
        "a" * 500,
        "{{ x }}",
        "&lt;",
        "\x1b[0m",
        "%s",
    ]
)


@settings(max_examples=25, deadline=None)
@given(TEXT)
def test_a_picture_of_anybody_is_well_formed(user: str) -> None:
    Xml.fromstring(example(user))  # noqa: S314 - our own
    Xml.fromstring(str(pictures.item_curves([1, 2], [0, 1], {words.shown(user): 0})))  # noqa: S314 - our own


@settings(deadline=None)
@given(TEXT, TEXT, TEXT)
def test_a_page_of_anything_is_well_formed_and_says_it(name: str, label: str, reason: str) -> None:
    table = Table(
        label, reason, ((name, label), ("b", "")), [[words.shown(name), Cell(label, -0.5, "▼")]], frozenset({1})
    )
    picture = Picture(name, label, pictures.Markup('<svg role="img" aria-label="x"></svg>'))
    section = Section(
        "cluster-segments", "segments", "Segments", name, label or "x", [table, picture], [], reason, name, label
    )
    state = runs.Card("cluster-segments", "bad", "!", name, reason, [(name, label)], [(label, reason)])
    page = Page(report.compose([state], [section], NOW))
    assert not page.faults
    assert not page.addresses
    assert {"script", "img"}.isdisjoint(page.tags)
    assert not any(attribute.startswith("on") for attribute in page.attributes)
    assert " ".join(words.shown(name).split()) in page.text


def _themes() -> list[dict[str, str]]:
    css = files(report).joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    )
    return [light, light | dark]


def _contrast(one: str, other: str) -> float:
    # WCAG 2.2, relative luminance and contrast ratio
    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", _themes(), ids=["light", "dark"])
@pytest.mark.parametrize("tint", ["orange", "blue"])
def test_text_in_coloured_cells_can_be_read(theme: dict[str, str], tint: str) -> None:
    css = files(report).joinpath("page.css").read_text(encoding="utf-8")
    (share,) = {float(found) for found in re.findall(r"calc\(var\(--tone\) \* ([\d.]+)\)", css)}
    mixed = [
        round(
            share * int(theme[tint][place : place + 2], 16) + (1 - share) * int(theme["paper"][place : place + 2], 16)
        )
        for place in (1, 3, 5)
    ]
    assert _contrast(theme["ink"], "#" + "".join(f"{part:02x}" for part in mixed)) >= 4.5


@pytest.mark.parametrize("theme", _themes(), ids=["light", "dark"])
def test_text_and_pictures_stand_out_from_the_page(theme: dict[str, str]) -> None:
    for paper in ("paper", "sheet"):
        for text in ("ink", "muted", "blue", "good", "calm", "warn", "bad"):
            assert _contrast(theme[text], theme[paper]) >= 4.5, (text, paper)
        for mark in ("blue", "red", "green", "orange"):
            assert _contrast(theme[mark], theme[paper]) >= 3, (mark, paper)
