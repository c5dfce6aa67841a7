"""DataShop 5513, "statistics cloze": timed fill-in-the-blank practice of 478 learners in Memphis, autumn 2015.

As shipped with the LKT package. A row is one trial: an answer, or a study trial (outcome STUDY), which is unscored. The
file's time is that of the response, so a trial began its response time earlier. Times are kept to the microsecond and
moved by whole weeks to end now. The topic is the skill, the sentence that an item is a gap in. Hints were not offered.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from seed_analytics.datasets import tables
from seed_analytics.db import Connection

TRIALS = "memphis5513_statcloze.parquet"
FILES = (TRIALS,)


def load(conn: Connection, directory: Path, now: datetime) -> dict[str, int]:
    """Load all trials; returns the number of rows by table."""
    trials = tables.read_parquet(
        directory / TRIALS,
        ("user_id", "item_id", "skill", "timestamp_utc", "correct", "response_time_ms", "session_id"),
    )
    answered_at = tables.shift_to_end_by(trials["timestamp_utc"], now)
    milliseconds = trials["response_time_ms"].astype(np.int32)
    part = {
        "student_id": tables.text(trials["user_id"]),
        "item_id": tables.text(trials["item_id"]),
        "correct": trials["correct"].astype(bool),
        "response_time_ms": milliseconds,
        "started_at": answered_at - np.maximum(milliseconds, 0).astype("timedelta64[ms]"),
        "completed_at": answered_at,
        "session_id": tables.text(trials["session_id"]),
        "topic_id": tables.text(trials["skill"]),
    }
    items, first = np.unique(trials["item_id"], return_index=True)
    questions: list[tuple[str, str, dict[str, Any]]] = [
        (str(item), str(trials["skill"][row]), {"tags": []}) for item, row in zip(items, first, strict=True)
    ]
    return tables.write(conn, "memphis", now, [part], questions)
