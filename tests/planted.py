"""Segments of learners who were drawn from known groups: is their number found, and are they who was planted?"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from seed_analytics.segments import cluster
from sklearn.metrics import adjusted_rand_score

SEPARATIONS = (0.0, 2.0, 3.0, 4.0, 6.0)  # distance between any two centres, in standard deviations of a group
LEARNERS = (60, 300, 1000)
GROUPS, FEATURES = 4, 6
HEAD = ["learners", "sd apart", "simulations", "4 found", "mean k", "adjusted Rand index", "drawn anew", "silhouette"]


def draw(rng: np.random.Generator, learners: int, separation: float) -> tuple[dict[str, list[float]], np.ndarray]:
    """Learners of four groups of equal size, normal with sd 1 around centres that are equally far from each other."""
    truth = np.arange(learners) % GROUPS
    centres = separation / 2**0.5 * np.eye(GROUPS, FEATURES)
    points = centres[truth] + rng.standard_normal((learners, FEATURES))
    return {f"feature {place}": points[:, place].tolist() for place in range(FEATURES)}, truth


def measure(simulations: int, picture: Path) -> list[list[str]]:
    """Return the rows of the table, and draw agreement with the truth by separation."""
    found: dict[tuple[int, float], np.ndarray] = {}
    for seed, (learners, separation) in enumerate(product(LEARNERS, SEPARATIONS)):
        rng = np.random.default_rng(seed)
        rows = []
        for _ in range(simulations):
            columns, truth = draw(rng, learners, separation)
            fit = cluster(columns, seed=1)
            right = adjusted_rand_score(truth, fit.assigned)
            rows.append([fit.n_clusters, right, fit.redrawn_rand_index, fit.silhouette])
        found[learners, separation] = np.array(rows)
    _draw(found, picture)
    return [
        [
            *(f"{learners:,}", f"{separation:g}", f"{simulations}", f"{np.mean(seen[:, 0] == GROUPS):.0%}"),
            *(f"{seen[:, 0].mean():.1f}", *(f"{mean:.2f}" for mean in seen[:, 1:].mean(axis=0))),
        ]
        for (learners, separation), seen in found.items()
    ]


def _draw(found: dict[tuple[int, float], np.ndarray], file: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "planted", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(9.5, 4), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True)
        looks = zip(LEARNERS, ("#e69f00", "#009e73", "#0072b2"), ("o", "s", "^"), strict=True)
        for learners, color, marker in looks:
            cells = [found[learners, separation] for separation in SEPARATIONS]
            look = {"color": color, "marker": marker, "label": f"{learners:,} learners"}
            panels[0].plot(SEPARATIONS, [cell[:, 1].mean() for cell in cells], **look)
            panels[1].plot(SEPARATIONS, [np.mean(cell[:, 0] == GROUPS) for cell in cells], **look)
        panels[0].set(ylabel="adjusted Rand index with the truth", title="Who belongs together", ylim=(-0.04, 1.04))
        panels[1].set(ylabel="share of simulations", title="Four segments are found", ylim=(-0.04, 1.04))
        for axes in panels:
            axes.set_xlabel("distance between the groups, in sd of a group")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
