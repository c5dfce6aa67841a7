"""Learner segments: k-means on standardised features, k by silhouette, labels that stay from run to run.

Lloyd's k-means with k-means++ starts (Arthur & Vassilvitskii, SODA 2007), silhouette (Rousseeuw, J Comput Appl Math
20:53, 1987), adjusted Rand index (Hubert & Arabie, J Classif 2:193, 1985), all from scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances_chunked
from threadpoolctl import threadpool_limits

K_MIN, K_MAX = 2, 8
N_INIT = 10  # starts a fit; the best by within-cluster sum of squares is kept
N_SEEDS = 5  # refits with other seeds, whose agreement is the stability that is recorded
N_DRAWS = 5  # refits to learners drawn anew, whose agreement is recorded, too
SILHOUETTE_SAMPLE = 5000  # learners whose silhouette is computed, at the cost of a distance to every learner
SILHOUETTE_MB = 16  # of their distances that are held at once
MISSING_MAX = 0.5  # a feature that most learners lack says who has it, not how they learn
WILD = 10  # robust standard deviations from a feature's median, beyond which a learner has no say in the segments
WILD_SHARE = 0.01  # of the learners; more of them, and they are a group
MATCH_MAX = 1.5  # root-mean-square distance, in standard deviations a feature, beyond which a label is not inherited

ARCHETYPES: dict[str, dict[str, float]] = {
    "thriving": {"engagement": 1, "accuracy": 1, "recovery": 0.7, "sessions": 0.7, "mean_gap": -0.7},
    "improving": {"improvement": 1.5, "efficiency": 0.7, "recovery": 0.5},
    "steady": {},
    "speeding-up": {"efficiency": 1.5},
    "struggling": {"accuracy": -1.2, "recovery": -0.8, "engagement": 0.2},
    "drifting": {"engagement": -1.2, "sessions": -1, "attempts": -0.8, "mean_gap": 1.2},
    "declining": {"improvement": -1.5, "accuracy": -0.4},
    "capable-but-rare": {"accuracy": 1, "engagement": -1, "sessions": -1, "mean_gap": 0.8},
    "busy": {"sessions": 1.3, "attempts": 1.3, "engagement": 0.8, "accuracy": -0.3},
}
"""Label -> where its typical learner is, in standard deviations from the mean; features not named are at the mean."""


@dataclass(frozen=True)
class Segments:
    """A clustering of n learners by p features into k clusters.

    Attributes:
        features: names of the p features that were used.
        labels: k labels, by cluster id.
        assigned: n cluster ids, 0..k-1, ordered by size, the largest first (then by centre).
        centers: (k, p) in the features' own units.
        silhouette: mean silhouette, -1..1; NaN for k = 1.
        silhouette_by_k: k -> silhouette, for each k that was tried.
        adjusted_rand_index: mean agreement of refits with other seeds, at most 1.
        redrawn_rand_index: the same of refits to learners drawn anew with replacement: the bootstrap.
        inertia: within-cluster sum of squares of the standardised features.
        dropped: feature -> why it was left out.
        remarks: what the reader should know.

    """

    features: tuple[str, ...]
    labels: tuple[str, ...]
    assigned: NDArray[np.int64]
    centers: NDArray[np.float64]
    silhouette: float
    silhouette_by_k: dict[int, float]
    adjusted_rand_index: float
    redrawn_rand_index: float
    inertia: float
    dropped: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def n_clusters(self) -> int:
        """Number of clusters k."""
        return len(self.labels)


def usable(
    columns: Mapping[str, Sequence[float | None]],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Return the features that can be clustered on, gaps filled by the median, and why the others cannot.

    A feature is left out when most of it is missing, when it is constant, or when it repeats another one.
    """
    kept: dict[str, NDArray[np.float64]] = {}
    dropped: dict[str, str] = {}
    for name, column in columns.items():
        values = _numbers(column)
        missing = float(np.isnan(values).mean()) if len(values) else 1.0
        if missing > MISSING_MAX:
            dropped[name] = f"missing for {missing:.0%} of the learners"
            continue
        filled = np.where(np.isnan(values), np.nanmedian(values), values)
        if np.ptp(filled) <= max(1e-9 * np.abs(filled).max(), 1e-150):  # what is squared must stay a number
            dropped[name] = f"constant ({filled[0]:g})"
            continue
        twin = next((other for other, kept_values in kept.items() if np.allclose(_z(kept_values), _z(filled))), None)
        if twin:
            dropped[name] = f"the same as {twin}"
        else:
            kept[name] = filled
    return kept, dropped


def _numbers(column: Sequence[float | None]) -> NDArray[np.float64]:
    values = np.array([np.nan if value is None else value for value in column], dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def cluster(
    columns: Mapping[str, Sequence[float | None]],
    *,
    n_clusters: int | None = None,
    seed: int,
    last: Sequence[Mapping[str, object]] = (),
) -> Segments:
    """Cluster learners and name the clusters.

    Args:
        columns: feature -> one value a learner, None where unknown.
        n_clusters: k, or None for the least of 2..8 whose silhouette is within a standard error of the largest.
        seed: of the starts; the result depends on it only as far as `adjusted_rand_index` says.
        last: centres of the previous run, as ``cluster_fit_meta.centers`` holds them; they lend their labels.

    Raises:
        ValueError: no feature is usable.

    """
    with threadpool_limits(limits=1):  # where CPUs are few or busy, scikit-learn's threads wait for each other
        return _cluster(columns, n_clusters, seed, last)


def _cluster(
    columns: Mapping[str, Sequence[float | None]],
    n_clusters: int | None,
    seed: int,
    last: Sequence[Mapping[str, object]],
) -> Segments:
    kept, dropped = usable(columns)
    wild = _wild(kept)
    if wild.any():
        dropped |= usable({name: values[~wild].tolist() for name, values in kept.items()})[1]
    names = tuple(name for name in kept if name not in dropped)
    if not names:
        raise ValueError("no usable feature: " + "; ".join(f"{name} is {why}" for name, why in dropped.items()))
    everyone = np.column_stack([kept[name] for name in names])
    raw = everyone[~wild]
    mean, sd = raw.mean(axis=0), raw.std(axis=0)
    points = (raw - mean) / sd
    distinct = len(np.unique(points.round(9), axis=0))
    remarks = [f"Left out {name}: {why}" for name, why in dropped.items()]
    missing = {name: int(np.isnan(_numbers(columns[name])).sum()) for name in names}
    if filled := [f"{name} ({count})" for name, count in missing.items() if count]:
        remarks.append(f"Filled by the median where missing, of {len(everyone)} learners: {', '.join(filled)}")
    if wild.any():
        remarks.append(f"Far from all others, and without a say in the segments: {wild.sum()} of {len(wild)} learners")
    most = min(K_MAX, distinct, len(points) - 1)
    fits = {k: kmeans(points, k, seed) for k in range(K_MIN, most + 1) if n_clusters in (None, k)}
    widths = {k: silhouettes(points, fit.labels_, seed) for k, fit in fits.items()}
    by_k = {k: float(width.mean()) for k, width in widths.items()}
    k = _least_good(widths) if widths else 1
    if n_clusters and n_clusters > 1 and not by_k:
        remarks.append(f"{n_clusters} clusters were asked for, but only {distinct} distinct learners are there")
    fit = fits[k] if k in fits else kmeans(points, 1, seed)
    # By size, then by centre: k-means numbers its clusters by chance.
    sizes = np.bincount(fit.labels_, minlength=k)
    order = np.lexsort((*fit.cluster_centers_.round(6).T[::-1], -sizes))
    assigned = np.argsort(order)[fit.predict((everyone - mean) / sd)].astype(np.int64)
    scaled = np.array([points[assigned[~wild] == cluster_id].mean(axis=0) for cluster_id in range(k)])
    return Segments(
        features=names,
        labels=_labels(names, scaled, mean, sd, last),
        assigned=assigned,
        centers=scaled * sd + mean,
        silhouette=by_k.get(k, float("nan")),
        silhouette_by_k=by_k,
        adjusted_rand_index=_stability(points, k, fit.labels_, seed),
        redrawn_rand_index=_redrawn(points, k, fit.labels_, seed),
        inertia=float(fit.inertia_),
        dropped=dropped,
        remarks=tuple(remarks),
    )


def _z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / values.std())


def _wild(kept: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return who is so far from all others in some feature that one of them would be a segment of its own.

    The spread is the median absolute deviation, 0.6745 standard deviations of normal values (Iglewicz & Hoaglin, How to
    Detect and Handle Outliers, 1993); a feature in which most learners are equal has none, and nobody is far in it.
    """
    n = len(next(iter(kept.values()), ()))
    wild = np.zeros(n, dtype=bool)
    for values in kept.values():
        away = np.abs(values - np.median(values))
        spread = 1.4826 * np.median(away)
        wild |= (away > WILD * spread) & (spread > 0)
    return wild if wild.sum() <= max(1, WILD_SHARE * n) else np.zeros(n, dtype=bool)


def kmeans(points: NDArray[np.float64], k: int, seed: int) -> KMeans:
    """Return the best of `N_INIT` fits of k clusters to (n, p) points, as they are."""
    return KMeans(n_clusters=k, n_init=N_INIT, random_state=seed).fit(points)


def silhouettes(points: NDArray[np.float64], assigned: NDArray[np.int32], seed: int) -> NDArray[np.float64]:
    """Return the silhouette widths of the learners, or of a sample of them.

    Each is exact, since distances are to all learners: a cluster of which none is in the sample is not missed.
    """
    drawn = np.random.default_rng(seed).permutation(len(points))[:SILHOUETTE_SAMPLE]
    sizes = np.bincount(assigned)
    member = np.eye(len(sizes))[assigned]
    with config_context(working_memory=SILHOUETTE_MB):
        chunks = pairwise_distances_chunked(points[drawn], points, reduce_func=lambda away, _: away @ member)
        total = np.vstack(list(chunks))
    row, own = np.arange(len(drawn)), assigned[drawn]
    inside = total[row, own] / np.maximum(sizes[own] - 1, 1)
    others = total / sizes
    others[row, own] = np.inf
    outside = others.min(axis=1)
    larger = np.maximum(inside, outside)
    alone = (sizes[own] == 1) | (larger == 0)  # 0 by definition
    return np.where(alone, 0.0, (outside - inside) / np.where(alone, 1.0, larger))


def _least_good(widths: Mapping[int, NDArray[np.float64]]) -> int:
    """Return the least k whose mean width is within a standard error of the largest.

    The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3): where two
    k are as good, chance must not choose another one, and other labels, with every run.
    """
    best = max(widths.values(), key=np.mean)
    enough = best.mean() - best.std() / np.sqrt(len(best))
    return min(k for k, width in widths.items() if width.mean() >= enough)


def _stability(points: NDArray[np.float64], k: int, assigned: NDArray[np.int32], seed: int) -> float:
    if k == 1:
        return 1.0
    others = (kmeans(points, k, seed + shift).labels_ for shift in range(1, N_SEEDS + 1))
    return float(np.mean([adjusted_rand_score(assigned, other) for other in others]))


def _redrawn(points: NDArray[np.float64], k: int, assigned: NDArray[np.int32], seed: int) -> float:
    if k == 1:
        return 1.0
    rng = np.random.default_rng(seed)
    drawn = (points[rng.integers(0, len(points), len(points))] for _ in range(N_DRAWS))
    # a draw may lack a learner who is a cluster alone, so that fewer distinct ones than k are there
    others = (kmeans(some, min(k, len(np.unique(some, axis=0))), seed).predict(points) for some in drawn)
    return float(np.mean([adjusted_rand_score(assigned, other) for other in others]))


def _labels(
    names: tuple[str, ...],
    scaled: NDArray[np.float64],
    mean: NDArray[np.float64],
    sd: NDArray[np.float64],
    last: Sequence[Mapping[str, object]],
) -> tuple[str, ...]:
    """Give each cluster one label: the last run's where a centre is near, else the nearest archetype that is free."""
    labels: dict[int, str] = {}
    before = [
        (str(c["label"]), c["center"]) for c in last if isinstance(c["center"], dict) and {*names} <= {*c["center"]}
    ]
    if before:
        old = (np.array([[center[name] for name in names] for _, center in before]) - mean) / sd
        for row, column, distance in _matched(scaled, old):
            if distance <= MATCH_MAX:
                labels[row] = before[column][0]
    free = [label for label in ARCHETYPES if label not in labels.values()]
    rest = [row for row in range(len(scaled)) if row not in labels]
    if rest:
        wanted = np.array([[ARCHETYPES[label].get(name, 0.0) for name in names] for label in free])
        for row, column, _ in _matched(scaled[rest], wanted):
            labels[rest[row]] = free[column]
    return tuple(labels[row] for row in range(len(scaled)))


def _matched(left: NDArray[np.float64], right: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Pair rows of two (., p) arrays one to one with the least total squared distance (Kuhn 1955)."""
    squared = ((left[:, None, :] - right[None, :, :]) ** 2).mean(axis=2)
    return [
        (int(r), int(c), float(np.sqrt(squared[r, c]))) for r, c in zip(*linear_sum_assignment(squared), strict=True)
    ]
