"""Open University Learning Analytics (Kuzilek, Hlosta & Zdrahal, Sci Data 4:170171, 2017; CC BY 4.0).

How it becomes a log of answers and visits:

- A learner is an **enrolment** (``AAA-2013J-11391``: module, presentation, student), not a student. Presentations are
  years apart and all are moved to end now; a student who takes a module twice would be at two points of it at once.
- A graded submission is a scored **answer** to the item ``assessment-ID``, right when the score reaches 40, the pass
  mark. One without a score is unscored. Scores that were banked, brought over from an earlier presentation, are left
  out: nobody did anything that day.
- A learner's clicks on one site on one day are one unscored **visit** (item ``site-ID``); the file has several rows for
  these, which are summed into one. All rows of a learner's day are one session.
- Only days are known, so everything happens at 12:00 UTC. Day 0 is taken to be the first Saturday of the month in which
  the presentation starts (B February, J October): the deadlines then fall on Thursdays and activity is least on
  Saturdays, in every presentation. Each presentation is moved by whole weeks to end now.
- A presentation whose clicks stop more than a week before its end is cut off in the file, and is left out (BBB-2013J).
- The topic is the module.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from seed_analytics.bulk_copy import Array
from seed_analytics.datasets import tables
from seed_analytics.db import Connection
from seed_analytics.errors import UsageFault

CLICKS = "studentVle_first1048575.parquet"
FILES = ("courses.parquet", "assessments.parquet", "studentAssessment.parquet", CLICKS)

PASS_MARK = 40
START_MONTH = {"B": 2, "J": 10}
SATURDAY = 5
CUT_DAYS = 7

PRESENTATION = ("code_module", "code_presentation")
COURSE = (*PRESENTATION, "module_presentation_length")


def load(
    conn: Connection, directory: Path, now: datetime, presentations: Collection[str] | None = None
) -> dict[str, int]:
    """Load the presentations whose clicks the file holds in full, or those named (``AAA-2013J``).

    Raises:
        UsageFault: a named presentation is not there in full.

    """
    clicks = tables.read_parquet(directory / CLICKS, (*PRESENTATION, "id_student", "id_site", "date"))
    complete = _complete(tables.read_parquet(directory / "courses.parquet", COURSE), clicks)
    if unknown := set(presentations or ()) - {"-".join(each) for each in complete}:
        raise UsageFault(f"{directory} does not hold the clicks of {', '.join(sorted(unknown))} in full.")
    chosen = [each for each in complete if presentations is None or "-".join(each) in presentations]

    assessments = tables.read_parquet(
        directory / "assessments.parquet", (*PRESENTATION, "id_assessment", "assessment_type", "date", "weight")
    )
    submissions = tables.read_parquet(
        directory / "studentAssessment.parquet",
        ("id_assessment", "id_student", "date_submitted", "is_banked", "score"),
    )
    order = np.argsort(assessments["id_assessment"])
    place = order[np.searchsorted(assessments["id_assessment"], submissions["id_assessment"], sorter=order)]
    submissions |= {name: assessments[name][place] for name in PRESENTATION}

    parts, questions = [], []
    for module, presentation in chosen:
        parts.append(_log(module, presentation, clicks, submissions, now))
        questions += _questions(module, presentation, assessments)
    return tables.write(conn, "oulad", now, parts, questions)


def _of(module: str, presentation: str, columns: dict[str, Array]) -> dict[str, Array]:
    rows = (columns["code_module"] == module) & (columns["code_presentation"] == presentation)
    return {name: values[rows] for name, values in columns.items()}


def _complete(courses: dict[str, Array], clicks: dict[str, Array]) -> list[tuple[str, str]]:
    found = []
    for module, presentation, length in zip(*(courses[name] for name in COURSE), strict=True):
        days = _of(module, presentation, {name: clicks[name] for name in (*PRESENTATION, "date")})["date"]
        if days.size and days.max() >= length - CUT_DAYS:
            found.append((str(module), str(presentation)))
    return sorted(found)


def _log(
    module: str, presentation: str, clicks: dict[str, Array], submissions: dict[str, Array], now: datetime
) -> dict[str, Array]:
    """Return the columns of ``attempt`` for one presentation: first the submissions, then the visits."""
    answers = _of(module, presentation, submissions)
    answers = {name: values[answers["is_banked"] == 0] for name, values in answers.items()}
    own = _of(module, presentation, clicks)
    # One visit for each student, site and day; what is summed is clicks, for which a log of visits has no column.
    keys = np.stack([own[name].astype(np.int64) for name in ("date", "id_site", "id_student")])
    keys = keys[:, np.lexsort(keys)]
    first = np.append(True, (np.diff(keys) != 0).any(axis=0))
    day_clicked, site, clicker = keys[:, first]

    student = np.concatenate([answers["id_student"], clicker])
    day = np.concatenate([answers["date_submitted"], day_clicked])
    students, of_student = np.unique(student, return_inverse=True)
    items = np.concatenate([_ids("assessment", answers["id_assessment"]), _ids("site", site)])
    score = np.pad(np.ma.getdata(answers["score"]), (0, clicker.size))
    unscored = np.pad(np.ma.getmaskarray(answers["score"]), (0, clicker.size), constant_values=True)
    noon = start(presentation) + day.astype("timedelta64[D]") + np.timedelta64(12, "h")
    days, of_day = np.unique(day, return_inverse=True)
    return {
        "student_id": tables.text([f"{module}-{presentation}-{number}" for number in students])[of_student],
        "item_id": items,
        "correct": np.ma.masked_array(score >= PASS_MARK, unscored),
        "started_at": tables.shift_to_end_by(noon.astype("datetime64[us]"), now),
        "session_id": tables.text([f"day {number}" for number in days])[of_day],
        "topic_id": np.full(student.size, module.encode()),
    }


def start(presentation: str) -> np.datetime64:
    """Return day 0 of a presentation such as ``2013J``: the first Saturday of its month."""
    first = np.datetime64(f"{presentation[:4]}-{START_MONTH[presentation[4]]:02d}-01", "D")
    weekday = (first.astype(int) + 3) % 7  # 1970-01-01 was a Thursday
    return first + np.timedelta64((SATURDAY - int(weekday)) % 7, "D")


def _ids(kind: str, numbers: Array) -> Array:
    unique, place = np.unique(numbers, return_inverse=True)
    return tables.text([f"{kind}-{number}" for number in unique])[place]


def _questions(module: str, presentation: str, assessments: dict[str, Array]) -> list[tuple[str, str, dict[str, Any]]]:
    own = _of(module, presentation, assessments)
    return [
        (f"assessment-{number}", module, {"tags": [str(kind)], "weight": float(weight)})
        for number, kind, weight in zip(own["id_assessment"], own["assessment_type"], own["weight"], strict=True)
    ]
