"""calibrate-irt-weekly: how hard and how telling each item is, and how able each learner (r-irt-plumber)."""

from __future__ import annotations

from math import log
from statistics import fmean
from typing import Any

from seed_analytics.clients import client
from seed_analytics.db import Columns
from seed_analytics.errors import TooLittleData
from seed_analytics.run import Run, Stage
from seed_analytics.settings import IrtSettings
from seed_analytics.stages import gates, require_joined_ids

MIN_ITEMS, MIN_LEARNERS = 3, 30  # a 2PL has no unique solution below three items
MIN_ANCHORS = 2  # a scale has a zero and a unit


def extract(run: Run[IrtSettings]) -> dict[str, Columns]:
    """Read first answers (user_id, item_id, correct) and anchors (item_id, a, b)."""
    require_joined_ids(run)
    settings = run.settings
    responses = run.read(
        "calibrate_irt_weekly/responses.sql",
        lookback_days=settings.mirt_lookback_days,
        topic_id=settings.mirt_topic_id,
        max_obs=settings.mirt_max_obs,
    )
    learners, items = len(set(responses["user_id"])), len(set(responses["item_id"]))
    run.log.info(f"Loaded {len(responses['correct'])} first answers of {learners} users to {items} items")
    if learners < MIN_LEARNERS or items < MIN_ITEMS:
        raise TooLittleData(
            f"{learners} learners answered {items} items in {settings.mirt_lookback_days} days; "
            f"a calibration needs {MIN_LEARNERS} and {MIN_ITEMS}."
        )
    anchors = run.read("calibrate_irt_weekly/anchors.sql", topic_id=settings.mirt_topic_id)
    known = set(anchors["item_id"])
    answered = len(known.intersection(responses["item_id"]))
    if known and answered < MIN_ANCHORS:
        raise TooLittleData(
            f"{answered} of {len(known)} anchor items were answered in {settings.mirt_lookback_days} days; to keep the "
            f"scale needs {MIN_ANCHORS}. Tag more items, or none and accept a scale of its own."
        )
    return {"responses": responses, "anchors": anchors}


def fit(run: Run[IrtSettings], data: dict[str, Columns]) -> dict[str, Any]:
    """Calibrate; anchors, where there are any, carry the scale over."""
    settings = run.settings
    body: dict[str, Any] = {
        "responses": data["responses"],
        "model": settings.mirt_model,
        "min_answers": settings.mirt_min_answers,
        "linking": settings.mirt_linking,
        "equal_groups": settings.mirt_equal_groups,
        "seed": settings.seed,
    }
    if data["anchors"]["item_id"]:
        body["anchors"] = data["anchors"]
    if settings.mirt_prior_a_sdlog:
        # Around 1; where anchors are held, around theirs. Else it would pull the scale, which they are to tell.
        answered = set(data["responses"]["item_id"]) if settings.mirt_linking == "fixed" else set()
        anchors = zip(data["anchors"]["item_id"], data["anchors"]["a"], strict=True)
        held = [a for item, a in anchors if item in answered]
        body["prior_a"] = {"meanlog": fmean(map(log, held)) if held else 0, "sdlog": settings.mirt_prior_a_sdlog}
    reply = client("r-irt-plumber", settings).post(
        "/irt/calibrate",
        body,
        expect=("items", "abilities", "excluded", "converged", "determined", "fit", "versions"),
    )
    run.versions |= reply["versions"]
    return reply


def publish(run: Run[IrtSettings], fit: dict[str, Any]) -> None:
    """Add this run's items and abilities to the history."""
    own = ("model", "n_users", "n_items", "n_responses", "log_likelihood", "linking")
    elsewhere = ("items", "abilities", "excluded", "dependent_pairs", "versions", "elapsed_secs")
    metrics = {name: value for name, value in fit.items() if name not in (*own, *elsewhere)}
    run.insert("irt_fit_meta", run_id=run.run_id, **{name: fit[name] for name in own}, metrics=metrics)
    items, excluded = fit["items"], fit["excluded"]
    fitted, left_out = len(items["item_id"]), len(excluded["item_id"])
    names = ("a", "b", "se_a", "se_b", "infit", "outfit")
    run.merge(
        "irt_item_params",
        {
            "run_id": [run.run_id] * (fitted + left_out),
            "item_id": items["item_id"] + excluded["item_id"],
            **{name: items[name] + [None] * left_out for name in names},
            **{name: items[name] + excluded[name] for name in ("n_responses", "p_correct")},
            "status": items["status"] + ["excluded"] * left_out,
            "reason": [None] * fitted + excluded["reason"],
        },
        "calibrate_irt_weekly/merge_item_params.sql",
    )
    abilities = fit["abilities"]
    run.merge(
        "irt_abilities",
        {"run_id": [run.run_id] * len(abilities["user_id"])}
        | {name: abilities[name] for name in ("user_id", "theta", "se", "n_responses")},
        "calibrate_irt_weekly/merge_abilities.sql",
    )
    run.log.info(f"Updated irt_item_params for {fitted} items, {left_out} left out")
    if run.settings.irt_update_question_meta:
        version = {"model": fit["model"], "version": run.run_id}
        meta = [{"a": a, "b": b} | version for a, b in zip(items["a"], items["b"], strict=True)]
        written = run.merge(
            "question", {"id": items["item_id"], "meta": meta}, "calibrate_irt_weekly/merge_question_meta.sql"
        )
        run.log.info(f"Updated question.meta for {written} items")


STAGE = Stage("calibrate-irt-weekly", "irt", IrtSettings, extract, fit, gates.irt, publish)
