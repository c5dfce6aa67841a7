"""Are ranks uniform? Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788) asks this of r-brms-plumber/sbc.R."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
BINS = 20


def chi_square(ranks: Floats, values: int) -> float:
    """P value of uniform ranks, of so many values each, by their histogram."""
    return float(stats.chisquare(np.histogram(ranks, BINS, (0, values))[0]).pvalue)


def least_tail(ranks: Floats, values: int) -> Floats:
    """Least pointwise two-sided tail probability of the ranks' ECDF; a row of ranks each."""
    places = np.arange(1, values)
    below = np.array([np.searchsorted(row, places, side="left") for row in np.sort(np.atleast_2d(ranks), axis=1)])
    n = np.atleast_2d(ranks).shape[1]
    expected = stats.binom(n, places / values)
    return np.asarray(np.minimum(expected.cdf(below), expected.sf(below - 1)).min(axis=1))


def ecdf(ranks: Floats, values: int) -> float:
    """P value of uniform ranks by simultaneous ECDF bands.

    Saeilynoja, Buerkner, Vehtari (2022), Statistics and Computing 32, 32: the band that just touches the ECDF
    somewhere, judged by how often uniform ranks leave it.
    """
    rng = np.random.default_rng(0)
    uniform = least_tail(rng.integers(0, values, (5000, len(ranks))), values)
    return float((uniform <= least_tail(ranks, values)[0]).mean())
