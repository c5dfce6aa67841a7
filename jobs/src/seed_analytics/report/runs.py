"""What ran and how fresh it is: one card a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from seed_analytics.report.parts import Read, rows
from seed_analytics.report.words import NONE, ago, count, duration, flat, moment, sentences
from seed_analytics.settings import STAGES

STEPS = ("extract", "fit", "gate", "publish")
STATES = {
    "succeeded": ("good", "✓", "published"),
    "skipped": ("calm", NONE, "skipped: too little data"),
    "running": ("calm", "…", "running"),
    "rejected": ("bad", "✕", "rejected by its gate: nothing was published"),
    "failed": ("bad", "!", "failed: nothing was published"),
    "stale": ("warn", "!", "stale: nothing new was published in time"),
    None: ("calm", "○", "has not run yet"),
}
"""Status of a stage's newest run -> its colour, a sign that needs no colour, and the words."""


@dataclass(frozen=True)
class Card:
    """A stage as the page's first part shows it.

    Attributes:
        stage: its command.
        tone: colour: good, calm, warn or bad.
        sign: the same as a sign.
        words: the same in words.
        reason: what the run said of itself; empty where it has not run.
        facts: (name, value) pairs for everybody.
        details: (name, value) pairs for the engineer.

    """

    stage: str
    tone: str
    sign: str
    words: str
    reason: str
    facts: Sequence[tuple[str, str]]
    details: Sequence[tuple[str, str]]


def cards(read: Read, now: datetime) -> list[Card]:
    """Return one card a stage, in the order in which a first run goes through them."""
    return [card(row, now) for row in rows(read("runs", stages=list(STAGES)))]


def card(row: Mapping[str, Any], now: datetime) -> Card:
    """Return the card of a stage; with `row` all null but `stage` for one that never ran."""
    limit = timedelta(hours=STAGES[row["stage"]].max_age_hours)
    stale = row["well_at"] is not None and now - row["well_at"] > limit
    # A run that failed says more than that the numbers before it are old; both show in the facts.
    tone, sign, words = STATES["stale" if stale and row["status"] in {"succeeded", "skipped"} else row["status"]]
    if row["status"] is None:
        return Card(row["stage"], tone, sign, words, "", (), ())
    facts = [("newest run", f"{row['run_id']}, {ago(row['started_at'], now)}")]
    if row["published_run_id"] is None:
        facts.append(("newest good run", "none yet"))
    else:
        own = row["published_run_id"] == row["run_id"]
        facts.append(
            ("newest good run", "the same" if own else f"{row['published_run_id']}, {ago(row['published_at'], now)}")
        )
        facts.append(("data up to", moment(row["published_as_of"])))
    if stale and row["status"] not in {"succeeded", "skipped"}:
        facts.append(("stale", f"nothing new was published in {limit.days} days"))
    details = [("rows", f"{count(row['rows_read'])} read, {count(row['rows_written'])} written")]
    if row["timings"]:
        steps = sorted(row["timings"].items(), key=lambda step: (*STEPS, step[0]).index(step[0]))
        details.append(
            (
                "took",
                f"{duration(sum(row['timings'].values()))}: "
                + ", ".join(f"{step} {duration(seconds)}" for step, seconds in steps),
            )
        )
    details.append(("versions", ", ".join(" ".join(pair) for pair in flat(row["versions"])) or NONE))
    return Card(row["stage"], tone, sign, words, sentences(row["reason"]), facts, details)
