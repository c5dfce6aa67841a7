"""The stages, each a module of its command's name that defines ``STAGE``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from seed_analytics.errors import TryLater
from seed_analytics.joins import count_joins, join_sentence, other_form
from seed_analytics.run import Run, Stage


def load(name: str) -> Stage[Any, Any, Any]:
    """Import a stage by its name: ``fit-survival-churn`` -> ``stages.fit_survival_churn.STAGE``."""
    stage: Stage[Any, Any, Any] = import_module(f"{__name__}.{name.replace('-', '_')}").STAGE
    return stage


def require_joined_ids(run: Run[Any], *, fills_kpis: bool = False) -> None:
    """Stop a run whose log has learners that nobody else knows, before it publishes numbers under their ids.

    Args:
        run: the run.
        fills_kpis: the run is what makes learners known in weekly_kpi. Where the platform keeps no
            features_topic_daily, new learners are nobody's fault, unless the other form of the ids knows more of them.

    Raises:
        InputFault: the share that joins is below MIN_JOIN_SHARE; the sentence says what to set.

    """
    form = run.settings.attempt_student_id_form
    joins = count_joins(run.conn, run.as_of)
    if not joins["students"] or not joins["known"]:
        return  # a new platform, where there is nothing to join with yet
    if fills_kpis and not joins["features"] and joins[form] >= joins[other_form(form)]:
        return
    join_sentence(joins, form, run.settings.min_join_share)


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
