"""fit-bayesian-growth: the chance that a learner reaches the goal (score ~ week + (week | student), r-brms-plumber)."""

from __future__ import annotations

from typing import Any

import numpy as np

from seed_analytics.clients import client
from seed_analytics.db import Columns
from seed_analytics.errors import Rejected, TooLittleData
from seed_analytics.numbers import by_key
from seed_analytics.run import Run, Stage, merge_kpis
from seed_analytics.settings import GrowthSettings
from seed_analytics.stages import gates, require_fresh_kpis, require_joined_ids

MIN_LEARNERS, MIN_WEEKS = 20, 3  # the spread of slopes needs learners, a slope needs weeks
EXAMPLES = 6  # learners whose band the report draws
BATCH = 50_000  # learners a prediction request, which keeps memory flat
SUMS = ("n", "sw", "sww", "sy", "swy")


def extract(run: Run[GrowthSettings]) -> dict[str, Any]:
    """Read each learner's sums of the scaled scores: sums over rows are PostgreSQL's work."""
    settings = run.settings
    source = "accuracy" if settings.brms_score_source == "accuracy" else "kpi"
    require_fresh_kpis(run) if source == "kpi" else require_joined_ids(run)
    scores = {"lookback_weeks": settings.brms_lookback_weeks, "score_source": settings.brms_score_source}

    def read(name: str, **params: Any) -> Columns:
        return run.read_over("scores", f"fit_bayesian_growth/scores_{source}.sql", name, **scores, **params)

    scale = {name: values[0] for name, values in read("fit_bayesian_growth/scale.sql").items()}
    run.log.info(f"Loaded {scale['rows']} weekly scores of {scale['users']} users over {scale['weeks']} weeks")
    if scale["users"] < MIN_LEARNERS or scale["weeks"] < MIN_WEEKS:
        raise TooLittleData(
            f"{scale['users']} learners have scores in {scale['weeks']} weeks; "
            f"growth needs {MIN_LEARNERS} and {MIN_WEEKS}."
        )
    if not scale["scale"]:
        raise Rejected(f"Every score is {scale['center']:g}: nothing grows, nothing differs")
    span = settings.brms_lookback_weeks - 1
    scaling = {"middle": span / 2, "span": span, "center": scale["center"], "scale": scale["scale"]}
    students = read("fit_bayesian_growth/students.sql", **scaling)
    step = max(1, len(students["user_id"]) // EXAMPLES)
    examples = students["user_id"][::step][:EXAMPLES]
    wanted = None if settings.brms_engine == "brms" else examples
    rows = read("fit_bayesian_growth/rows.sql", users=wanted, **scaling)
    return {"students": students, "scaling": scaling, "rows": rows, "examples": examples}


def patterns(students: Columns) -> tuple[Columns, float]:
    """Pool learners with the same design (n, sum x, sum x^2) through their sufficient statistics.

    Returns:
        Columns n_students, n, sw, sww, c0, c1, q00, q01, q11, one row a design; and the sum of y^2.

    """
    n, sw, sww, sy, swy, syy = (np.array(students[name], dtype=float) for name in (*SUMS, "syy"))
    # Sums of the same weeks in another order may differ in the last bits, so they are compared rounded.
    rounded = np.column_stack([n, sw.round(9), sww.round(9)])
    designs, first, which = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    which = which.ravel()

    def total(values: Any) -> list[float]:
        return list(map(float, np.bincount(which, weights=values, minlength=len(designs))))

    columns = {
        "n_students": np.bincount(which, minlength=len(designs)).tolist(),
        **{name: sums[first].tolist() for name, sums in (("n", n), ("sw", sw), ("sww", sww))},
        **{
            "c0": total(sy),
            "c1": total(swy),
            "q00": total(sy * sy),
            "q01": total(sy * swy),
            "q11": total(swy * swy),
        },
    }
    return columns, float(syy.sum())


def fit(run: Run[GrowthSettings], data: dict[str, Any]) -> dict[str, Any]:
    """Sample the population's parameters; predict each learner at the horizon, and the examples at every week."""
    settings, service, scaling = run.settings, client("r-brms-plumber", run.settings), data["scaling"]
    last = scaling["span"]
    weeks = [(week - scaling["middle"]) / scaling["span"] for week in range(last + settings.brms_horizon_weeks + 1)]
    target = settings.metrics_default_target or scaling["center"]
    goal = (target - scaling["center"]) / scaling["scale"]
    if settings.brms_engine == "marginal":
        pooled, sum_yy = patterns(data["students"])
        sent: dict[str, Any] = {"patterns": pooled, "sum_yy": sum_yy}
    else:
        band = {"user_id": data["examples"], "at": weeks}
        sent = {"rows": data["rows"], "predict": {"week": weeks[-1], "goal": goal, "band": band}}
    sent |= {
        "engine": settings.brms_engine,
        "family": settings.brms_family,
        "n_samples": settings.brms_n_samples,
        "n_chains": settings.brms_n_chains,
        "seed": settings.seed,
    }
    wanted = ("posterior_summary", "diagnostics", "draws", "priors", "formula", "versions")
    reply = service.post("/growth/fit", sent, expect=wanted)
    run.versions |= reply["versions"]
    draws = reply.pop("draws")
    if settings.brms_engine == "marginal":

        def predict(chosen: slice | list[int], at: list[float]) -> Columns:
            students = {name: _pick(data["students"][name], chosen) for name in ("user_id", *SUMS)}
            body = {"draws": draws, "students": students, "at": at, "goal": goal, "seed": settings.seed}
            predictions: Columns = service.post("/growth/predict", body, expect=("predictions",))["predictions"]
            return predictions

        users = data["students"]["user_id"]
        batches = [predict(slice(start, start + BATCH), weeks[-1:]) for start in range(0, len(users), BATCH)]
        reply["predictions"] = {name: [value for batch in batches for value in batch[name]] for name in batches[0]}
        reply["band"] = predict([users.index(user) for user in data["examples"]], weeks)
    return reply | {"scaling": scaling | {"goal": target}, "rows": data["rows"]}


def _pick(values: list[Any], chosen: slice | list[int]) -> list[Any]:
    return values[chosen] if isinstance(chosen, slice) else [values[place] for place in chosen]


def publish(run: Run[GrowthSettings], fit: dict[str, Any]) -> None:
    """Publish the posterior, and P and sigma on each learner's newest KPI row."""
    run.insert(
        "brms_fit_meta",
        run_id=run.run_id,
        engine=fit["engine"],
        formula=fit["formula"],
        priors=dict(zip(fit["priors"]["parameter"], fit["priors"]["prior"], strict=True)),
        posterior_summary=by_key(fit["posterior_summary"], "parameter"),
        diagnostics=fit["diagnostics"] | {"family": fit["family"], "seed": fit["seed"], "scaling": fit["scaling"]},
        examples=examples(fit),
    )
    if run.settings.brms_update_kpi:
        found, scale = fit["predictions"], fit["scaling"]["scale"]
        sigma = [sd * scale for sd in found["sd"]]
        merge_kpis(run, found["user_id"], {"P": found["probability"], "sigma": sigma})


def examples(fit: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a few learners' scores and the band expected of them, in the score's own unit and weeks from 0."""
    scaling, rows, band = fit["scaling"], fit["rows"], fit["band"]

    def pick(columns: Columns, user: str, name: str) -> list[float]:
        return [value for value, owner in zip(columns[name], columns["user_id"], strict=True) if owner == user]

    def weeks(values: list[float]) -> list[float]:
        return [round(value * scaling["span"] + scaling["middle"], 6) for value in values]

    return [
        {
            "user_id": user,
            "week": weeks(pick(rows, user, "week")),
            "score": [value * scaling["scale"] + scaling["center"] for value in pick(rows, user, "score")],
            "band_week": weeks(pick(band, user, "at")),
            "mean": [value * scaling["scale"] + scaling["center"] for value in pick(band, user, "mean")],
            "sd": [value * scaling["scale"] for value in pick(band, user, "sd")],
        }
        for user in dict.fromkeys(band["user_id"])
    ]


STAGE = Stage("fit-bayesian-growth", "brms", GrowthSettings, extract, fit, gates.growth, publish)
