"""Growth, 500 learners x 12 weeks: the marginal engine beside brms on the same scores, both over HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
from seed_analytics.growth import patterns
from seed_analytics.local import RService, checkout

from benchmarks._measure import Row, beside, within
from benchmarks.services import post

LEARNERS, WEEKS = 500, 12
FIT_SECS, RHAT_MAX, ESS_MIN = 1.0, 1.01, 400


def scores(seed: int) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Scaled weekly scores: as rows, and as each learner's sums."""
    rng = np.random.default_rng(seed)
    x = (np.arange(WEEKS) - (WEEKS - 1) / 2) / (WEEKS - 1)
    intercept, slope = 0.8 * rng.standard_normal((LEARNERS, 1)), 0.2 + 0.4 * rng.standard_normal((LEARNERS, 1))
    y = intercept + slope * x + 0.5 * rng.standard_normal((LEARNERS, WEEKS))
    users = [f"u{n:04d}" for n in range(LEARNERS)]
    rows = {
        "user_id": np.repeat(users, WEEKS).tolist(),
        "week": np.tile(x, LEARNERS).tolist(),
        "score": y.ravel().tolist(),
    }
    sums = {
        "user_id": users,
        "n": [WEEKS] * LEARNERS,
        "sw": [float(x.sum())] * LEARNERS,
        "sww": [float((x * x).sum())] * LEARNERS,
        "sy": y.sum(axis=1).tolist(),
        "swy": (y * x).sum(axis=1).tolist(),
        "syy": (y * y).sum(axis=1).tolist(),
    }
    return rows, sums


def rows() -> Iterator[Row]:
    subprocess.run(["Rscript", checkout() / "r-brms-plumber" / "compile.R", "--brms"], check=True, capture_output=True)
    sampled, sums = scores(seed=1)
    pooled, sum_yy = patterns(sums)
    with RService("r-brms-plumber") as service:

        def fit(**body: Any) -> dict[str, Any]:
            return dict(post(service, "/growth/fit", body).raise_for_status().json())

        def marginal() -> dict[str, Any]:
            return fit(engine="marginal", patterns=pooled, sum_yy=sum_yy)

        ours = marginal()
        seen = ours["diagnostics"]
        yield within(f"fit in the service, {LEARNERS} x {WEEKS}", ours["elapsed_secs"], FIT_SECS, "s")
        yield within("  max R-hat - 1", seen["max_rhat"] - 1, RHAT_MAX - 1, "")
        yield Row(
            "  min bulk ESS",
            f"{seen['min_ess_bulk']:.0f}",
            f"at least {ESS_MIN}",
            f"{ESS_MIN / seen['min_ess_bulk']:.2g}",
            seen["min_ess_bulk"] >= ESS_MIN,
        )
        yield beside(
            "the same over HTTP", marginal, "brms", lambda: fit(engine="brms", rows=sampled), runs=1, warm_up=False
        )
