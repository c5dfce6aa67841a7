"""A request that each fit of the R services answers."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta
from typing import Any

Body = dict[str, Any]


def weeks(n: int) -> Body:
    """Return `n` weeks of a metric, from a Monday on; it rises, so that Prophet forecasts it best."""
    draw = random.Random(1)  # noqa: S311
    return {
        "week_start": [str(date(2024, 1, 1) + timedelta(weeks=i)) for i in range(n)],
        "value": [0.3 + 0.01 * i + draw.gauss(0, 0.001) for i in range(n)],
    }


def _visits() -> Body:
    draw = random.Random(2)  # noqa: S311
    columns: Body = {"user_id": [], "day": [], "gap_days": [], "event": [], "x": []}
    for user in range(30):
        day = draw.randrange(10)
        while day < 100:
            gap, x = draw.randrange(1, 20), draw.gauss(0, 1)
            row = (f"u{user}", day, min(gap, 100 - day), day + gap <= 100, x)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            day += gap
    return columns


def _responses() -> Body:
    draw = random.Random(3)  # noqa: S311
    rows = [
        (f"u{user}", f"i{item}", int(draw.random() < 1 / (1 + 2.718 ** (item / 4 - ability))))
        for user in range(60)
        for ability in [draw.gauss(0, 1)]
        for item in range(8)
    ]
    return dict(zip(("user_id", "item_id", "correct"), map(list, zip(*rows, strict=True)), strict=True))


def _scores() -> Body:
    draw = random.Random(4)  # noqa: S311
    rows = [
        (f"u{user}", week / 4 - 0.5, level + 0.4 * (week / 4 - 0.5) + draw.gauss(0, 0.3))
        for user in range(20)
        for level in [draw.gauss(0, 1)]
        for week in range(5)
    ]
    return dict(zip(("user_id", "week", "score"), map(list, zip(*rows, strict=True)), strict=True))


FITS: dict[str, dict[str, Body]] = {
    "r-irt-plumber": {
        "/irt/calibrate": {"responses": _responses(), "prior_a": {"meanlog": 0, "sdlog": 0.5}},  # the stage's
        "/irt/score": {"items": {"item_id": ["i0", "i1"], "a": [1, 1.2], "b": [-1, 0]}, "responses": _responses()},
    },
    "r-forecast-plumber": {
        "/survival/fit": {
            "visits": _visits(),
            "covariates": ["x"],
            "as_of_day": 100,
            "score": {"user_id": ["u1"], "days_away": [3], "x": [0.5]},
        },
        "/prophet/fit": {"metric": "I_t", "weeks": weeks(12)},
    },
    "r-brms-plumber": {
        "/growth/fit": {"rows": _scores(), "n_samples": 200, "n_chains": 2},
        "/growth/predict": {
            "draws": {
                "b_Intercept": [0.1],
                "b_week": [0.4],
                "sd_Intercept": [1.0],
                "sd_week": [0.2],
                "cor": [0.0],
                "sigma": [0.3],
            },
            "students": {"user_id": ["u1"], "n": [2], "sw": [0.0], "sww": [0.5], "sy": [0.3], "swy": [0.2]},
            "at": [0.6],
            "goal": 0.5,
        },
    },
}
ROUTES = [(name, path) for name, paths in FITS.items() for path in paths]


def _many_responses(n_users: int, n_items: int) -> Body:
    draw = random.Random(5)  # noqa: S311
    abilities = [draw.gauss(0, 1) for _ in range(n_users)]
    rows = [
        (f"u{user}", f"i{item}", int(draw.random() < 1 / (1 + math.exp(4 * item / n_items - 2 - ability))))
        for user, ability in enumerate(abilities)
        for item in range(n_items)
    ]
    return dict(zip(("user_id", "item_id", "correct"), map(list, zip(*rows, strict=True)), strict=True))


LONG: dict[str, tuple[str, Body]] = {
    "r-irt-plumber": ("/irt/calibrate", {"responses": _many_responses(2000, 100)}),
    "r-forecast-plumber": (
        "/prophet/fit",
        {"metric": "I_t", "weeks": weeks(12), "n_samples": 20_000, "forecast_weeks": 8},
    ),
    "r-brms-plumber": ("/growth/fit", FITS["r-brms-plumber"]["/growth/fit"] | {"n_samples": 20_000, "n_chains": 4}),
}
"""Fits that take seconds, so that what happens meanwhile finds them under way."""
