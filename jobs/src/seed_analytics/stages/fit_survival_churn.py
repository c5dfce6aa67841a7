"""fit-survival-churn: the chance that a learner comes back in time (Cox model, r-forecast-plumber)."""

from __future__ import annotations

from typing import Any

from seed_analytics.clients import client
from seed_analytics.db import Columns
from seed_analytics.errors import TooLittleData
from seed_analytics.numbers import by_key
from seed_analytics.run import Run, Stage, merge_kpis
from seed_analytics.settings import SurvivalSettings
from seed_analytics.stages import gates, require_joined_ids

COVARIATES = ("log_previous_gap", "visits_per_week", "log_activity", "accuracy_28d")
MIN_EVENTS = 40  # ten a covariate: Peduzzi et al., J Clin Epidemiol 48:1503 (1995)


def extract(run: Run[SurvivalSettings]) -> Columns:
    """Read one row a visit: user_id, day, gap_days, event, is_last, last_day and the covariates."""
    require_joined_ids(run)
    visits = run.read("fit_survival_churn/visits.sql", lookback_days=run.settings.survival_lookback_days)
    events = sum(visits["event"])
    run.log.info(f"Loaded {len(visits['day'])} visits of {len(set(visits['user_id']))} users, {events} of them returns")
    if events < MIN_EVENTS:
        raise TooLittleData(
            f"{events} returns in {run.settings.survival_lookback_days} days; a fit needs {MIN_EVENTS}."
        )
    return visits


def fit(run: Run[SurvivalSettings], visits: Columns) -> dict[str, Any]:
    """Fit on every visit that was followed for a day or more; score each learner from their last visit."""

    def rows(keep: list[bool], *names: str) -> Columns:
        return {name: [v for v, k in zip(visits[name], keep, strict=True) if k] for name in names}

    settings = run.settings
    last = rows(visits["is_last"], "user_id", "gap_days", *COVARIATES)
    reply = client("r-forecast-plumber", settings).post(
        "/survival/fit",
        {
            "visits": rows([gap > 0 for gap in visits["gap_days"]], "user_id", "day", "gap_days", "event", *COVARIATES),
            "covariates": COVARIATES,
            "threshold_days": settings.survival_event_threshold_days,
            "as_of_day": visits["last_day"][0],
            "score": {"days_away": last.pop("gap_days"), **last},
            "seed": settings.seed,
        },
        expect=(
            "coefficients",
            "hazard_ratios",
            "separated",
            "concordance",
            "scores",
            "survival_curve",
            "ph_test",
            "versions",
        ),
    )
    run.versions |= reply["versions"]
    days_away = dict(zip(last["user_id"], rows(visits["is_last"], "gap_days")["gap_days"], strict=True))
    return reply | {"days_away": [days_away[user] for user in reply["scores"]["user_id"]]}


def publish(run: Run[SurvivalSettings], fit: dict[str, Any]) -> None:
    """Publish the model, each learner's risk, and S on each learner's newest KPI row."""
    users, survival = fit["scores"]["user_id"], fit["scores"]["survival"]
    metrics = (
        "n",
        "n_events",
        "n_users",
        "concordance",
        "log_likelihood",
        "holdout",
        "dropped",
        "warnings",
        "seed",
    )
    run.insert(
        "survival_fit_meta",
        run_id=run.run_id,
        formula=fit["formula"],
        coefficients=by_key(fit["coefficients"], "term"),
        hazard_ratios=by_key(fit["hazard_ratios"], "term"),
        metrics={name: fit[name] for name in metrics} | {"ph_test": by_key(fit["ph_test"], "term")},
        survival_curve=fit["survival_curve"],
    )
    run.merge(
        "survival_risk",
        {
            "user_id": users,
            "risk": [1 - value for value in survival],
            "days_away": fit["days_away"],
            "run_id": [run.run_id] * len(users),
        },
        "fit_survival_churn/merge_survival_risk.sql",
    )
    run.log.info(f"Updated survival_risk for {len(users)} users")
    if run.settings.survival_update_kpi:
        merge_kpis(run, users, {"S": survival})


STAGE = Stage("fit-survival-churn", "survival", SurvivalSettings, extract, fit, gates.survival, publish)
