"""The stages, each a module of its command's name that defines ``STAGE``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seed_analytics.errors import TryLater
from seed_analytics.run import Run, Stage
from seed_analytics.settings import (
    ClusterSettings,
    GrowthSettings,
    IrtSettings,
    KpiSettings,
    ProphetSettings,
    Settings,
    SurvivalSettings,
)

SETTINGS: dict[str, type[Settings]] = {
    "compute-weekly-kpis": KpiSettings,
    "calibrate-irt-weekly": IrtSettings,
    "cluster-segments": ClusterSettings,
    "fit-survival-churn": SurvivalSettings,
    "forecast-prophet": ProphetSettings,
    "fit-bayesian-growth": GrowthSettings,
}
"""Every stage that records its runs, in the order in which a first run goes through them, and its settings."""


def load(name: str) -> Stage[Any, Any, Any]:
    """Import a stage by its name: ``fit-survival-churn`` -> ``stages.fit_survival_churn.STAGE``."""
    stage: Stage[Any, Any, Any] = import_module(f"{__name__}.{name.replace('-', '_')}").STAGE
    return stage


def require_fresh_kpis(run: Run[Any]) -> None:
    """Stop a run whose KPIs are not there yet, so that it is tried again rather than fitted on old ones.

    Raises:
        TryLater: weekly_kpi has rows, but none for the last complete week.

    """
    newest = run.read("run/newest_kpi_week.sql")
    if newest["newest"][0] and newest["newest"][0] < newest["wanted"][0]:
        raise TryLater(
            f"weekly_kpi ends with the week of {newest['newest'][0]}; the last complete week is that of "
            f"{newest['wanted'][0]}. Run compute-weekly-kpis (or wait for the platform's job) first."
        )
