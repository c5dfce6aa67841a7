"""fit-bayesian-growth: the chance that a learner reaches the goal (score ~ week + (week | student), r-brms-plumber)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from seed_analytics.clients import RService, client
from seed_analytics.db import Columns
from seed_analytics.errors import Rejected, TooLittleData
from seed_analytics.growth import SUMS, Scaling, bands, patterns
from seed_analytics.numbers import by_key
from seed_analytics.run import Run, Stage, merge_kpis
from seed_analytics.settings import GrowthSettings
from seed_analytics.stages import gates, require_fresh_kpis, require_joined_ids

MIN_LEARNERS, MIN_WEEKS = 20, 3  # the spread of slopes needs learners, a slope needs weeks
EXAMPLES = 6  # learners whose band the report draws
BATCH = 50_000  # learners a prediction request, which keeps memory flat


def extract(run: Run[GrowthSettings]) -> dict[str, Any]:
    """Read each learner's sums of the scaled scores: sums over rows are PostgreSQL's work."""
    settings = run.settings
    source = "accuracy" if settings.brms_score_source == "accuracy" else "kpi"
    require_fresh_kpis(run) if source == "kpi" else require_joined_ids(run)
    scores = {"lookback_weeks": settings.brms_lookback_weeks, "score_source": settings.brms_score_source}
    relations = scored(source, settings.brms_score_scale)

    def read(name: str, **params: Any) -> Columns:
        return run.read_over(relations, f"fit_bayesian_growth/{name}.sql", **scores, **params)

    found = {name: values[0] for name, values in read("scale").items()}
    run.log.info(f"Loaded {found['rows']} weekly scores of {found['users']} users over {found['weeks']} weeks")
    if found["users"] < MIN_LEARNERS or found["weeks"] < MIN_WEEKS:
        raise TooLittleData(
            f"Learners with scores: {found['users']}, weeks with scores: {found['weeks']}; "
            f"growth needs {MIN_LEARNERS} and {MIN_WEEKS}."
        )
    if not found["scale"]:
        raise Rejected(
            f"Every score is {found['center']:g}: nothing grows, nothing differs"
            if settings.brms_score_scale == "raw"
            else "In each week all learners have the same score, and so one standing: set BRMS_SCORE_SCALE=raw"
        )
    span = settings.brms_lookback_weeks - 1
    scaling = Scaling(span / 2, span, found["center"], found["scale"])
    students = read("students", **asdict(scaling))
    examples = students["user_id"][:: max(1, len(students["user_id"]) // EXAMPLES)][:EXAMPLES]
    wanted = None if settings.brms_engine == "brms" else examples
    rows = read("rows", users=wanted, **asdict(scaling))
    return {"students": students, "scaling": scaling, "rows": rows, "examples": examples}


def scored(source: str, scale: str) -> dict[str, str]:
    """Return what defines the relation `scores` (user_id, week, score): a source as it is, or its standings."""
    measured = f"fit_bayesian_growth/scores_{source}.sql"
    if scale == "raw":
        return {"scores": measured}
    return {"measured": measured, "scores": "fit_bayesian_growth/standings.sql"}


def fit(run: Run[GrowthSettings], data: dict[str, Any]) -> dict[str, Any]:
    """Sample the population's parameters; predict each learner at the horizon, and the examples at every week."""
    settings, service, scaling = run.settings, client("r-brms-plumber", run.settings), data["scaling"]
    at, target = scaling.at(settings.brms_horizon_weeks), settings.metrics_default_target or scaling.center
    goal = (target - scaling.center) / scaling.scale
    sent: dict[str, Any] = {
        "engine": settings.brms_engine,
        "family": settings.brms_family,
        "n_samples": settings.brms_n_samples,
        "n_chains": settings.brms_n_chains,
        "seed": settings.seed,
    }
    if settings.brms_engine == "marginal":
        sent["patterns"], sent["sum_yy"] = patterns(data["students"])
    else:
        band = {"user_id": data["examples"], "at": at}
        sent |= {"rows": data["rows"], "predict": {"week": at[-1], "goal": goal, "band": band}}
    wanted = ("posterior_summary", "diagnostics", "draws", "priors", "formula", "versions")
    reply = service.post("/growth/fit", sent, expect=wanted)
    run.versions |= reply["versions"]
    draws = reply.pop("draws")
    if settings.brms_engine == "marginal":
        asked = {"draws": draws, "goal": goal, "seed": settings.seed}
        reply |= predict(service, asked, data["students"], data["examples"], at)
    return reply | {"scaling": scaling, "goal": target, "rows": data["rows"]}


def predict(
    service: RService, asked: dict[str, Any], students: Columns, examples: list[str], at: list[float]
) -> dict[str, Columns]:
    """Ask for every learner at the last of the weeks `at`, some at a time, and for the examples at all of them."""

    def ask(places: range | list[int], weeks: list[float]) -> Columns:
        some = {name: [students[name][place] for place in places] for name in ("user_id", *SUMS)}
        reply = service.post("/growth/predict", asked | {"students": some, "at": weeks}, expect=("predictions",))
        predictions: Columns = reply["predictions"]
        return predictions

    users = students["user_id"]
    batches = [ask(range(start, min(start + BATCH, len(users))), at[-1:]) for start in range(0, len(users), BATCH)]
    predictions = {name: [value for batch in batches for value in batch[name]] for name in batches[0]}
    return {"predictions": predictions, "band": ask([users.index(user) for user in examples], at)}


def publish(run: Run[GrowthSettings], fit: dict[str, Any]) -> None:
    """Publish the posterior, and P and sigma on each learner's newest KPI row."""
    scaling: Scaling = fit["scaling"]
    units = {"scaling": asdict(scaling) | {"goal": fit["goal"]}}
    run.insert(
        "brms_fit_meta",
        run_id=run.run_id,
        engine=fit["engine"],
        formula=fit["formula"],
        priors=dict(zip(fit["priors"]["parameter"], fit["priors"]["prior"], strict=True)),
        posterior_summary=by_key(fit["posterior_summary"], "parameter"),
        diagnostics=fit["diagnostics"] | {"family": fit["family"], "seed": fit["seed"]} | units,
        examples=bands(scaling, fit["rows"], fit["band"]),
    )
    if run.settings.brms_update_kpi:
        found = fit["predictions"]
        merge_kpis(run, found["user_id"], {"P": found["probability"], "sigma": scaling.spreads(found["sd"])})


STAGE = Stage("fit-bayesian-growth", "brms", GrowthSettings, extract, fit, gates.growth, publish)
