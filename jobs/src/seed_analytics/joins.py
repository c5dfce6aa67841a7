"""Whether the platform's other tables know the log's learners: one definition for check-inputs and the stages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import InputFault
from seed_analytics.log_view import StudentIdForm


def count_joins(conn: Connection, as_of: datetime) -> dict[str, int]:
    """Count the learners of the 56 days before `as_of`.

    Returns:
        students, the learners of the log; for each form of the id, how many of them join; known, the learners of the
        other tables; features, whether ``features_topic_daily`` has rows.

    """
    query = (
        f"WITH attempt_log_ids AS (\n{db.read_sql('attempt_log_ids.sql')}\n)\n{db.read_sql('check_inputs/joins.sql')}"
    )
    return db.fetch_one(conn, query, {"as_of": as_of})


def join_sentence(joins: Mapping[str, int], form: StudentIdForm, min_share: float) -> str:
    """Say what share of the log's learners the platform's other tables know.

    Args:
        joins: what `count_joins` returned, with learners on both sides.
        form: the form that is configured.
        min_share: the least acceptable share, 0..1.

    Raises:
        InputFault: the share is below `min_share`; the sentence names the other form if that joins better.

    """
    other = other_form(form)
    share, other_share = joins[form] / joins["students"], joins[other] / joins["students"]
    said = (
        f"{share:.0%} of the log's {joins['students']} learners are found in weekly_kpi or features_topic_daily "
        f"with ATTEMPT_STUDENT_ID_FORM={form}"
    )
    if share >= min_share:
        return said
    advice = (
        f"With ATTEMPT_STUDENT_ID_FORM={other} it would be {other_share:.0%}: set that"
        if other_share > share
        else f"{other} joins no better ({other_share:.0%}): find out how attempt.student_id is made of user_id"
    )
    raise InputFault(f"Only {said}, less than MIN_JOIN_SHARE={min_share:g}. {advice}.")


def other_form(form: StudentIdForm) -> StudentIdForm:
    """Return the form that is not `form`."""
    (other,) = (each for each in get_args(StudentIdForm) if each != form)
    found: StudentIdForm = other
    return found
