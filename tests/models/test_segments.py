"""Segments: published k-means results, planted groups found again, labels that stay, and sane answers at the edges."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import median_abs_deviation
from seed_analytics.segments import (
    ARCHETYPES,
    K_MAX,
    MATCH_MAX,
    MISSING_MAX,
    SILHOUETTE_SAMPLE,
    WILD,
    WILD_SHARE,
    Segments,
    cluster,
    kmeans,
    silhouettes,
    usable,
)
from seed_analytics.stages import gates
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score, silhouette_samples
from support import Database

SEED = 20251102
NAMES = ("engagement", "improvement", "efficiency", "recovery", "accuracy", "sessions")


def columns(points: np.ndarray, names: tuple[str, ...] = NAMES) -> dict[str, list[float]]:
    return {name: points[:, place].tolist() for place, name in enumerate(names[: points.shape[1]])}


def planted(rng: np.random.Generator, per_group: int = 60, spread: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Four groups in six features, each feature in a unit of its own."""
    centers = np.array(
        [[1, 0, 0.5, 1, 1, 1], [-1, 0, 0, -0.5, 0.8, -1.2], [0.2, -0.3, -1, -1, -1.3, 0.4], [0, 1.6, 1, 0.5, 0, 0]]
    )
    points = np.concatenate([center + spread * rng.standard_normal((per_group, 6)) for center in centers])
    units = np.array([0.1, 0.05, 0.2, 0.3, 0.1, 8.0])
    return points * units + np.array([0.5, 0, 0.1, 0.4, 0.7, 20]), np.repeat(np.arange(4), per_group)


def as_last_run(found: Segments) -> list[dict[str, object]]:
    return [
        {"cluster_id": place, "label": label, "center": dict(zip(found.features, map(float, center), strict=True))}
        for place, (label, center) in enumerate(zip(found.labels, found.centers, strict=True))
    ]


@pytest.fixture(scope="module")
def iris() -> dict[str, list[float]]:
    return columns(load_iris().data, ("sepal_length", "sepal_width", "petal_length", "petal_width"))


def test_iris_standardised_within_sum_of_squares(iris: dict[str, list[float]]) -> None:
    # R: kmeans(scale(iris[, 1:4]), 3, nstart = 25)$tot.withinss is 138.888; scale() divides by n - 1, we by n.
    found = cluster(iris, n_clusters=3, seed=SEED)
    assert found.inertia * 149 / 150 == pytest.approx(138.888, abs=1e-3)


def test_iris_chooses_two_by_silhouette(iris: dict[str, list[float]]) -> None:
    # cluster::silhouette on kmeans(scale(iris[, 1:4]), 2): .58, the maximum over 2..8
    found = cluster(iris, seed=SEED)
    assert (found.n_clusters, round(found.silhouette, 2)) == (2, 0.58)


def test_iris_sizes_and_sums_by_plain_k_means() -> None:
    # R: kmeans(iris[, 1:4], 3): sizes 50, 62, 38, within-cluster sums 15.151, 39.821, 23.879
    points = load_iris().data
    fit = kmeans(points, 3, SEED)
    sizes = np.bincount(fit.labels_)
    within = [((points[fit.labels_ == k] - fit.cluster_centers_[k]) ** 2).sum() for k in range(3)]
    found = sorted(zip(sizes.tolist(), np.round(within, 3).tolist(), strict=True))
    assert found == [(38, 23.879), (50, 15.151), (62, 39.821)]


def test_silhouettes_are_scikit_learn_s() -> None:
    points, truth = planted(np.random.default_rng(19))
    truth[0] = 4  # alone
    drawn = np.random.default_rng(SEED).permutation(len(points))
    assert silhouettes(points, truth, SEED) == pytest.approx(silhouette_samples(points, truth)[drawn], abs=1e-7)


def test_silhouettes_of_a_sample_are_those_of_all() -> None:
    points, truth = planted(np.random.default_rng(20), per_group=1500)
    drawn = np.random.default_rng(SEED).permutation(len(points))[:SILHOUETTE_SAMPLE]
    assert silhouettes(points, truth, SEED) == pytest.approx(silhouette_samples(points, truth)[drawn], abs=1e-7)


def test_a_segment_too_small_for_the_sample_is_judged_all_the_same() -> None:
    # Two of 20,000 learners are apart, and the sample of 5,000 has neither.
    accuracy = np.full(20_000, 0.5)
    accuracy[np.random.default_rng(SEED).permutation(len(accuracy))[-2:]] = 0.9
    assert len(accuracy) - 2 > SILHOUETTE_SAMPLE
    found = cluster({"accuracy": accuracy.tolist()}, seed=SEED)
    assert np.bincount(found.assigned).tolist() == [19_998, 2]
    assert found.silhouette == pytest.approx(1)


def test_planted_groups_are_found() -> None:
    points, truth = planted(np.random.default_rng(1))
    found = cluster(columns(points), seed=SEED)
    assert found.n_clusters == 4
    assert adjusted_rand_score(truth, found.assigned) > 0.9


def test_of_two_k_that_are_as_good_the_lesser_is_taken() -> None:
    # Five learners stand apart from the third group: naming them gains less silhouette than its standard error.
    rng = np.random.default_rng(18)
    points = np.concatenate([center + 0.3 * rng.standard_normal((60, 2)) for center in ([0, 0], [4, 0], [2, 4])])
    points[-5:] += [0, 3.5]
    found = cluster(columns(points), seed=SEED)
    assert found.silhouette_by_k[4] > found.silhouette_by_k[3], "the two were to be as good"
    assert found.n_clusters == 3
    again = cluster(columns(np.tile(points, (2, 1))), seed=SEED)
    assert again.labels == found.labels


def test_planted_groups_are_stable_over_seeds() -> None:
    points, _ = planted(np.random.default_rng(2))
    assert cluster(columns(points), seed=SEED).adjusted_rand_index > 0.95


def test_labels_do_not_depend_on_the_seed() -> None:
    points, _ = planted(np.random.default_rng(3))
    named = [
        np.array(found.labels)[found.assigned] for found in (cluster(columns(points), seed=seed) for seed in range(5))
    ]
    assert all((other == named[0]).mean() > 0.98 for other in named)


def test_labels_stay_when_learners_are_drawn_anew() -> None:
    rng = np.random.default_rng(4)
    points, _ = planted(rng)
    first = cluster(columns(points), seed=SEED)
    for _ in range(5):
        drawn = points[rng.integers(0, len(points), len(points))]
        again = cluster(columns(drawn), seed=SEED, last=as_last_run(first))
        assert set(again.labels) == set(first.labels)
        for label, center in zip(again.labels, again.centers, strict=True):
            before = first.centers[first.labels.index(label)]
            assert np.abs((center - before) / points.std(axis=0)).max() < 0.5


def test_labels_follow_the_centre_from_week_to_week() -> None:
    rng = np.random.default_rng(5)
    points, _ = planted(rng)
    first = cluster(columns(points), seed=SEED)
    later = points + 0.15 * points.std(axis=0) * rng.standard_normal(points.shape)
    second = cluster(columns(later), seed=SEED + 1, last=as_last_run(first))
    names = np.array(first.labels)[first.assigned], np.array(second.labels)[second.assigned]
    assert (names[0] == names[1]).mean() > 0.95


def test_labels_stay_from_one_week_to_the_next_of_the_stage(simulated: Database, run: Callable[..., int]) -> None:
    monday = date.fromisoformat(simulated("SELECT date_trunc('week', now())::date::text")[0][0])
    named = []
    for as_of in (monday - timedelta(weeks=1), monday):
        assert run(simulated, "cluster-segments", "--as-of", as_of.isoformat()) == 0
        named.append(dict(simulated("SELECT user_id, segment_label FROM user_segments")))
    both = named[0].keys() & named[1].keys()
    assert len(both) > 0.95 * len(named[0])
    assert np.mean([named[0][user] == named[1][user] for user in both]) > 0.95


def test_each_cluster_has_a_label_of_its_own() -> None:
    points, _ = planted(np.random.default_rng(6))
    for k in range(2, K_MAX + 1):
        labels = cluster(columns(points), n_clusters=k, seed=SEED).labels
        assert len(set(labels)) == k
        assert set(labels) <= set(ARCHETYPES)


def test_label_tells_what_the_centre_is_like() -> None:
    points, truth = planted(np.random.default_rng(7))
    found = cluster(columns(points), seed=SEED)
    label = {group: found.labels[np.bincount(found.assigned[truth == group]).argmax()] for group in range(4)}
    assert (label[0], label[2], label[3]) == ("thriving", "struggling", "improving")


def test_units_do_not_matter() -> None:
    points, _ = planted(np.random.default_rng(8))
    found = cluster(columns(points), seed=SEED)
    other = cluster(columns(points * [1000, 0.01, 1, 60, 100, 7] + 5), seed=SEED)
    assert (found.assigned == other.assigned).all()
    assert found.labels == other.labels


def test_order_of_learners_does_not_matter() -> None:
    rng = np.random.default_rng(9)
    points, _ = planted(rng)
    order = rng.permutation(len(points))
    found, other = cluster(columns(points), seed=SEED), cluster(columns(points[order]), seed=SEED)
    assert adjusted_rand_score(found.assigned[order], other.assigned) == pytest.approx(1)
    assert found.labels == other.labels


def test_a_copy_of_every_learner_changes_nothing() -> None:
    points, _ = planted(np.random.default_rng(10))
    found, other = cluster(columns(points), seed=SEED), cluster(columns(np.tile(points, (2, 1))), seed=SEED)
    assert np.allclose(found.centers, other.centers)


def test_one_learner_less_moves_the_others_hardly() -> None:
    points, _ = planted(np.random.default_rng(11))
    found, other = cluster(columns(points), seed=SEED), cluster(columns(points[1:]), seed=SEED)
    assert adjusted_rand_score(found.assigned[1:], other.assigned) > 0.95


def test_same_seed_gives_the_same_bytes() -> None:
    points, _ = planted(np.random.default_rng(12))
    found, other = cluster(columns(points), seed=SEED), cluster(columns(points), seed=SEED)
    assert found.centers.tobytes() == other.centers.tobytes()


def test_constant_feature_is_dropped_and_said() -> None:
    points, _ = planted(np.random.default_rng(13))
    found = cluster(columns(points) | {"mean_gap": [7.0] * len(points)}, seed=SEED)
    assert found.dropped == {"mean_gap": "constant (7)"}
    assert found.features == NAMES
    assert any("mean_gap" in remark for remark in found.remarks)


def test_a_feature_in_a_tiny_unit_is_not_constant() -> None:
    points, _ = planted(np.random.default_rng(22))
    found, tiny = cluster(columns(points), seed=SEED), cluster(columns(points * 1e-30), seed=SEED)
    assert tiny.features == NAMES
    assert (tiny.assigned == found.assigned).all()


def test_duplicate_feature_is_dropped_whatever_its_unit() -> None:
    points, _ = planted(np.random.default_rng(14))
    found = cluster(columns(points) | {"attempts": (points[:, 5] * 60 + 3).tolist()}, seed=SEED)
    assert found.dropped == {"attempts": "the same as sessions"}


def test_feature_that_most_learners_lack_is_dropped() -> None:
    points, _ = planted(np.random.default_rng(15))
    rare = [1.0 * row if row % 3 == 0 else None for row in range(len(points))]
    assert "mean_gap" in cluster(columns(points) | {"mean_gap": rare}, seed=SEED).dropped


@pytest.mark.parametrize(("lacking", "kept"), [(50, True), (51, False)])
def test_a_feature_that_half_of_the_learners_lack_is_the_last_to_be_kept(lacking: int, kept: bool) -> None:
    assert lacking / 100 - MISSING_MAX == pytest.approx(0 if kept else 0.01)
    found, dropped = usable({"accuracy": [None if row < lacking else row / 100 for row in range(100)]})
    assert ("accuracy" in found, "accuracy" in dropped) == (kept, not kept)


def test_gaps_are_filled_by_the_median() -> None:
    kept, dropped = usable({"accuracy": [0.1, 0.2, None, 0.9, float("nan"), 0.3]})
    assert kept["accuracy"].tolist() == pytest.approx([0.1, 0.2, 0.25, 0.9, 0.25, 0.3])
    assert not dropped


def test_nothing_usable_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="accuracy is constant"):
        cluster({"accuracy": [0.5] * 30}, seed=SEED)


def test_more_clusters_than_distinct_learners_is_one_cluster() -> None:
    found = cluster({"accuracy": [0.1, 0.9] * 20}, n_clusters=5, seed=SEED)
    assert found.n_clusters == 1
    assert any("distinct" in remark for remark in found.remarks)


def test_as_many_clusters_as_distinct_learners_are_found() -> None:
    for asked in (None, 2):
        found = cluster({"accuracy": [0.1, 0.9] * 20}, n_clusters=asked, seed=SEED)
        assert (found.n_clusters, found.silhouette, found.remarks) == (2, 1, ())


def test_no_structure_is_said() -> None:
    cloud = np.random.default_rng(16).standard_normal((400, 6))
    found = cluster(columns(cloud), seed=SEED)
    assert "one continuum more than groups" in str(gates.segments(found))


def test_one_cluster_can_be_asked_for() -> None:
    points, _ = planted(np.random.default_rng(23))
    found = cluster(columns(points), n_clusters=1, seed=SEED)
    assert (found.labels, found.remarks) == (("steady",), ())
    assert found.centers[0] == pytest.approx(points.mean(axis=0))
    assert gates.segments(found).accepted


@pytest.mark.parametrize("asked", [None, 4], ids=["k by silhouette", "k = 4"])
def test_one_enormous_outlier_does_not_name_the_others(asked: int | None) -> None:
    points, _ = planted(np.random.default_rng(17))
    calm = cluster(columns(points), n_clusters=asked, seed=SEED)
    seen = cluster(columns(np.vstack([points, points.max(axis=0) * 10])), n_clusters=asked, seed=SEED)
    assert seen.labels == calm.labels
    assert (seen.assigned[:-1] == calm.assigned).all()
    assert seen.centers == pytest.approx(calm.centers)
    assert any("without a say in the segments: 1 of 241 learners" in remark for remark in seen.remarks)


def test_what_is_far_but_not_rare_is_a_segment() -> None:
    points, _ = planted(np.random.default_rng(24))
    group = points.max(axis=0) * 10 + 0.1 * points[:20]
    found = cluster(columns(np.vstack([points, group])), seed=SEED)
    assert len(set(found.assigned[-20:])) == 1
    assert set(found.assigned[-20:]).isdisjoint(found.assigned[:-20])


@pytest.mark.parametrize(("factor", "wild"), [(1 - 1e-4, False), (1 + 1e-4, True)])
def test_who_is_beyond_ten_robust_standard_deviations_has_no_say(factor: float, wild: bool) -> None:
    near = np.linspace(-1, 1, 101)
    others = np.append(near, 1e3)  # wherever the last one is
    far = np.median(others) + factor * WILD * median_abs_deviation(others, scale="normal")
    found = cluster({"accuracy": [*near, far]}, n_clusters=1, seed=SEED)
    assert any("without a say" in remark for remark in found.remarks) is wild
    assert found.centers[0, 0] == pytest.approx(0 if wild else far / 102)


@pytest.mark.parametrize(("far", "wild"), [(2, True), (3, False)])
def test_more_than_a_hundredth_of_the_learners_are_a_group(far: int, wild: bool) -> None:
    learners = 200
    assert (far / learners <= WILD_SHARE) is wild
    points = [*np.linspace(-1, 1, learners - far), *[100.0] * far]
    found = cluster({"accuracy": points}, n_clusters=1, seed=SEED)
    assert any("without a say" in remark for remark in found.remarks) is wild


@pytest.mark.parametrize(("distance", "inherited"), [(MATCH_MAX - 1e-6, True), (MATCH_MAX + 1e-6, False)])
def test_a_label_is_inherited_up_to_a_distance_in_standard_deviations(distance: float, inherited: bool) -> None:
    values = np.linspace(-1, 1, 101)
    center = {"accuracy": values.std() * distance, "sessions": -3 * values.std() * distance}
    last = [{"cluster_id": 0, "label": "the last run's", "center": center}]
    found = cluster(
        {"accuracy": values.tolist(), "sessions": (-3 * np.roll(values, 50)).tolist()},
        n_clusters=1, seed=SEED, last=last,
    )  # fmt: skip
    assert (found.labels == ("the last run's",)) is inherited


def test_learners_drawn_anew_tell_a_planted_group_from_none() -> None:
    points, _ = planted(np.random.default_rng(25))
    cloud = np.random.default_rng(26).standard_normal((240, 6))
    assert cluster(columns(points), n_clusters=4, seed=SEED).redrawn_rand_index > 0.95
    assert cluster(columns(cloud), n_clusters=4, seed=SEED).redrawn_rand_index < 0.5


@budget(max_examples=25, deadline=None)
@given(hnp.arrays(float, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=st.floats(-1e6, 1e6)))
def test_any_finite_table_gives_segments_or_a_sentence(points: np.ndarray) -> None:
    try:
        found = cluster(columns(points), seed=SEED)
    except ValueError as error:
        assert "no usable feature" in str(error)  # noqa: PT017
    else:
        assert 1 <= found.n_clusters <= K_MAX
        assert set(found.assigned) == set(range(found.n_clusters))
        assert np.isfinite(found.centers).all()
        assert (np.diff(np.bincount(found.assigned)) <= 0).all(), "cluster ids are ordered by size"
