"""Published fits: what is asked, and what the reply must hold. In this process, over HTTP and in the images alike."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import SHARED

Floats = NDArray[np.float64]

# How many of 1,000 examinees gave each pattern of answers to LSAT section 6, from 00000 to 11111.
# Bock & Lieberman (1970), Psychometrika 35, 179-197, table 1.
LSAT6 = [
    *(3, 6, 2, 11, 1, 1, 3, 4, 1, 8, 0, 16, 0, 3, 2, 15),
    *(10, 29, 14, 81, 3, 28, 15, 80, 16, 56, 21, 173, 11, 61, 28, 298),
]
# R package ltm, ltm(LSAT ~ z1): Rizopoulos (2006), J. Stat. Softw. 17(5), with its 21 Gauss-Hermite nodes. Its printout
# reports max(|grad|) 0.024: the optimiser stopped short of the maximum, in the direction of b of the fifth item.
LTM: dict[str, list[float]] = {
    "a": [0.8253715, 0.7229499, 0.8904748, 0.6885502, 0.6574516],
    "b": [-3.3597341, -1.3696497, -0.2798983, -1.8659189, -3.1235725],
}
LTM_LOG_LIKELIHOOD, LTM_GRADIENT = -2466.653, 0.024


def lsat6_matrix() -> Floats:
    """Examinees x items."""
    patterns = np.array(list(product((0.0, 1.0), repeat=5)))
    return np.repeat(patterns, LSAT6, axis=0)


def as_responses(answers: Floats) -> dict[str, list[Any]]:
    """Columns of a matrix users x items in which NaN is no answer."""
    users, items = np.nonzero(~np.isnan(answers))
    return {
        "user_id": [f"u{user:05d}" for user in users],
        "item_id": [f"i{item:03d}" for item in items],
        "correct": [int(value) for value in answers[users, items]],
    }


def is_the_published_lsat6(fit: dict[str, Any]) -> None:
    """Hold a 2PL of LSAT6 to ltm's, all to 2e-3 of their values, and all but b of the fifth item to 2e-3 itself.

    That one is held to the maximum, in test_irt.
    """
    assert fit["items"]["a"] == pytest.approx(LTM["a"], abs=2e-3)
    assert fit["items"]["b"] == pytest.approx(LTM["b"], rel=2e-3)
    assert fit["items"]["b"][:4] == pytest.approx(LTM["b"][:4], abs=2e-3)
    assert fit["items"]["se_a"] == pytest.approx([0.258, 0.187, 0.233, 0.185, 0.210], abs=1e-3)
    assert fit["log_likelihood"] == pytest.approx(LTM_LOG_LIKELIHOOD, abs=1e-3)


def _read(name: str) -> list[dict[str, str]]:
    path = SHARED / "data" / "oracle" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    with path.open() as file:
        return list(csv.DictReader(file))


def lung() -> dict[str, Any]:
    """Ask for a fit of the lung data of R package survival."""
    rows = _read("lung.csv")
    covariates = ["age", "sex", "ph.ecog"]
    visits: dict[str, list[Any]] = {
        "user_id": [str(place) for place in range(len(rows))],
        "day": [0] * len(rows),
        "gap_days": [float(row["time"]) for row in rows],
        "event": [row["status"] == "2" for row in rows],
    }
    visits |= {name: [None if row[name] in {"", "NA"} else float(row[name]) for row in rows] for name in covariates}
    return {"visits": visits, "covariates": covariates, "as_of_day": 1022}


def is_the_published_lung(fit: dict[str, Any]) -> None:
    """Hold to coxph(Surv(time, status) ~ age + sex + ph.ecog, lung): Therneau & Grambsch (2000)."""
    assert fit["coefficients"]["estimate"] == pytest.approx([0.011067, -0.552612, 0.463728], abs=1e-5)
    assert (fit["log_likelihood"]["null"], fit["log_likelihood"]["model"]) == pytest.approx(
        (-744.4805, -729.2301), abs=1e-4
    )
    assert (fit["n"], fit["n_events"]) == (227, 164)
    assert fit["concordance"] == pytest.approx(0.6371, abs=5e-5)


SLEEPSTUDY_CENTRE, SLEEPSTUDY_SCALE, SLEEPSTUDY_DAYS = (
    300.0,
    200.0,
    9.0,
)  # ms, ms, days: weak priors on the service's scale


def sleepstudy() -> dict[str, Any]:
    """Ask for a fit of Belenky et al. (2003), J Sleep Res 12:1, as R package lme4 ships it."""
    rows = _read("sleepstudy.csv")
    columns = {
        "user_id": [row["Subject"] for row in rows],
        "week": [float(row["Days"]) / SLEEPSTUDY_DAYS for row in rows],
        "score": [(float(row["Reaction"]) - SLEEPSTUDY_CENTRE) / SLEEPSTUDY_SCALE for row in rows],
    }
    return {"engine": "marginal", "rows": columns, "n_samples": 4000}


def is_the_published_sleepstudy(fit: dict[str, Any]) -> None:
    """Hold to REML: Bates et al. (2015), J Stat Softw 67(1), summary(lmer(Reaction ~ Days + (Days | Subject)))."""
    draws = {name: np.array(values) for name, values in fit["draws"].items()}
    intercept = SLEEPSTUDY_CENTRE + SLEEPSTUDY_SCALE * draws["b_Intercept"]
    slope = SLEEPSTUDY_SCALE / SLEEPSTUDY_DAYS * draws["b_week"]
    assert abs(intercept.mean() - 251.405) < 0.1 * intercept.std()
    assert abs(slope.mean() - 10.467) < 0.1 * slope.std()
    assert np.median(SLEEPSTUDY_SCALE * draws["sigma"]) == pytest.approx(25.592, rel=0.02)
    assert fit["diagnostics"]["max_rhat"] <= 1.01


# Prophet's documentation, quick start in R: the logarithm of daily views of Wikipedia's page on Peyton Manning, 2017-01-15
# and the four days after.
PEYTON_MANNING = [8.2126, 8.5376, 8.3251, 8.1577, 8.1697]


def peyton_manning(folder: Path) -> str:
    """The views by day, as CSV."""
    return (folder / "r-forecast-plumber" / "tests" / "testthat" / "peyton-manning.csv").read_text()
