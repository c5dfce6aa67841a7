"""Growth: simulation-based calibration of the marginal engine and of P (Talts et al. 2018, arXiv:1804.06788)."""

from __future__ import annotations

import csv
import io
import os
import subprocess

import numpy as np
import pytest
from numpy.typing import NDArray
from ranks import chi_square, ecdf
from scipy import stats
from support import ROOT

SERVICE = ROOT / "r-brms-plumber"
QUANTITIES = ("b_Intercept", "b_week", "sd_Intercept", "sd_week", "cor", "sigma", "P")
FITS = 500
CHAINS, ITERATIONS, RANKS = "2", "600", 100  # of each fit; values that a rank takes then
ALARM = 0.001  # a chance alarm of one of fourteen checks: about once in seventy new seeds
Floats = NDArray[np.float64]


@pytest.fixture(scope="session")
def ranks() -> dict[str, Floats]:
    """Ranks of the truth, by two processes. Fits as long as the stage's: test-sbc.R, tests/validate.py."""
    subprocess.run(["Rscript", SERVICE / "compile.R"], check=True)
    environment = os.environ | {"R_LIBS_USER": str(ROOT / ".cache" / "R")}
    running = [
        subprocess.Popen(
            ["Rscript", SERVICE / "sbc.R", str(FITS // 2), seed, CHAINS, ITERATIONS],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for seed in ("1", "2")
    ]
    tables = [list(csv.DictReader(io.StringIO(process.communicate()[0]))) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return {name: np.array([float(row[name]) for table in tables for row in table]) for name in tables[0][0]}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", QUANTITIES)
def test_ranks_of_the_truth_are_uniform_in_500_fits(ranks: dict[str, Floats], name: str) -> None:
    assert len(ranks[name]) == FITS
    assert RANKS - 5 < ranks[name].max() < RANKS
    assert chi_square(ranks[name], RANKS) > ALARM
    assert ecdf(ranks[name], RANKS) > ALARM


@pytest.mark.timeout(1200)
def test_no_fit_of_few_students_diverges(ranks: dict[str, Floats]) -> None:
    assert ranks["divergent"].sum() == 0


@pytest.mark.parametrize(("shift", "width"), [(0.25, 1.0), (0.0, 0.8), (0.0, 1.25)], ids=["shifted", "narrow", "wide"])
def test_the_rank_checks_see_a_posterior_that_is(shift: float, width: float) -> None:
    truth = np.random.default_rng(3).normal(size=FITS)
    bent = np.floor(RANKS * stats.norm.cdf(truth, loc=shift, scale=width))
    assert ecdf(bent, RANKS) <= ALARM
    assert chi_square(bent, RANKS) <= 0.01  # bins see such bends less sharply than bands do
