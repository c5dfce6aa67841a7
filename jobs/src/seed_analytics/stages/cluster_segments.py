"""cluster-segments: which learners are alike, and what each group is like (k-means, scikit-learn)."""

from __future__ import annotations

from typing import Any

import sklearn

from seed_analytics.errors import Rejected, TooLittleData
from seed_analytics.run import Run, Stage
from seed_analytics.segments import Segments, cluster
from seed_analytics.settings import CLUSTER_FEATURES, ClusterSettings
from seed_analytics.stages import gates, require_fresh_kpis

MIN_LEARNERS = 20


def extract(run: Run[ClusterSettings]) -> dict[str, Any]:
    """Read one row a learner: the mean of each chosen KPI; and the centres of the last run."""
    require_fresh_kpis(run)
    settings = run.settings
    rows = run.read("cluster_segments/features.sql", lookback_weeks=settings.cluster_lookback_weeks)
    features = {name: rows[CLUSTER_FEATURES[name]] for name in settings.cluster_features}
    run.log.info(f"Loaded {len(rows['user_id'])} users with {len(features)} features")
    if len(rows["user_id"]) < MIN_LEARNERS:
        raise TooLittleData(f"{len(rows['user_id'])} learners have KPIs; segments need {MIN_LEARNERS}.")
    last = run.read("cluster_segments/last_centers.sql")["centers"]
    return {"user_id": rows["user_id"], "features": features, "last": last[0] if last else []}


def fit(run: Run[ClusterSettings], data: dict[str, Any]) -> dict[str, Any]:
    """Cluster the learners."""
    run.versions["scikit_learn"] = sklearn.__version__
    settings = run.settings
    try:
        segments = cluster(
            data["features"], n_clusters=settings.cluster_n_clusters, seed=settings.seed, last=data["last"]
        )
    except ValueError as error:
        raise Rejected(f"The learners cannot be clustered: {error}") from error
    return data | {"segments": segments}


def gate(fit: dict[str, Any]) -> Any:
    """Judge the clustering."""
    return gates.segments(fit["segments"])


def publish(run: Run[ClusterSettings], fit: dict[str, Any]) -> None:
    """Publish the centres and each learner's segment."""
    segments: Segments = fit["segments"]
    sizes = [int((segments.assigned == cluster_id).sum()) for cluster_id in range(segments.n_clusters)]
    centers = [
        {
            "cluster_id": cluster_id,
            "label": label,
            "size": size,
            "center": dict(zip(segments.features, map(float, center), strict=True)),
        }
        for cluster_id, (label, size, center) in enumerate(zip(segments.labels, sizes, segments.centers, strict=True))
    ]
    metrics = {
        "silhouette": segments.silhouette,
        "silhouette_by_k": segments.silhouette_by_k,
        "adjusted_rand_index": segments.adjusted_rand_index,
        "redrawn_rand_index": segments.redrawn_rand_index,
        "inertia": segments.inertia,
        "dropped": segments.dropped,
        "n_users": len(fit["user_id"]),
        "seed": run.settings.seed,
    }
    run.insert(
        "cluster_fit_meta",
        run_id=run.run_id,
        n_clusters=segments.n_clusters,
        method=run.settings.cluster_method,
        features=list(segments.features),
        metrics=metrics,
        centers=centers,
    )
    names = list(fit["features"])
    users = len(fit["user_id"])
    run.merge(
        "user_segments",
        {
            "user_id": fit["user_id"],
            "segment_label": [segments.labels[cluster_id] for cluster_id in segments.assigned],
            "cluster_id": segments.assigned.tolist(),
            "features": [dict(zip(names, row, strict=True)) for row in zip(*fit["features"].values(), strict=True)],
            "run_id": [run.run_id] * users,
        },
        "cluster_segments/merge_user_segments.sql",
    )
    run.log.info(f"Updated user_segments for {users} users")


STAGE = Stage("cluster-segments", "cluster", ClusterSettings, extract, fit, gate, publish)
