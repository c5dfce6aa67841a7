"""A log of learners' answers with a known truth, in the platform's tables.

Each learner belongs to one of five segments, has an ability that grows week by week, and comes back with a daily
hazard that depends on what was known at the last visit. Each item follows the two-parameter logistic model. Weeks have
a trend, a season and, where the log is long enough, two anomalies. The truth is kept in the schema
``simulated_truth``, apart from the platform's tables, so that what the stages estimate can be compared with it.

The process, per learner and day:

- visits with probability ``1 - exp(-hazard)``, where ``log hazard = log_hazard + B_FREQUENCY (f - 0.4) + B_GAP log g +
  B_ACCURACY (s - 0.6)``, times the weekday's and the week's activity; f is the share of the 14 days up to the last
  visit that had one, g the days between the last two visits (1 before the second), s the share right at the last visit;
- at a visit answers items, most of one topic, some of those lately answered wrong (review), with
  ``logit P(right) = a (theta + growth * weeks + ability_shift - b)``, plus ``recovery`` where the learner's last answer
  to the item was wrong, so that first attempts follow the two-parameter model exactly;
- needs a lognormal time for each answer, shorter by ``speed_up`` every week; a few visits are reading only, unscored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.types.json import Jsonb

from seed_analytics import db
from seed_analytics.bulk_copy import Array, copy_arrays
from seed_analytics.db import Connection
from seed_analytics.log_view import StudentIdForm
from seed_analytics.platform_tables import empty_platform_tables, finish_load

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

N_ITEMS = 200
N_TOPICS = 10
TOPIC_ITEMS = N_ITEMS // N_TOPICS
TOPIC_STEPS = np.array([1, 3, 7, 9, 11, 13, 17, 19])  # coprime to TOPIC_ITEMS: steps that reach every item
ANCHOR_SHARE = 0.2
LEARNERS_AT_ONCE = 250  # memory is that of one batch, whatever the number of learners

B_FREQUENCY = 0.5
B_GAP = -0.15
B_ACCURACY = 0.6
FREQUENCY_DAYS = 14
FREQUENCY_REFERENCE = 0.4
ACCURACY_REFERENCE = 0.6

WEEKDAY_ACTIVITY = np.array([1.1, 1.1, 1.05, 1.0, 0.9, 0.65, 0.8])  # Monday first
SEASON_WEEKS = 6  # an exam cycle
SEASON_LOGITS = 0.08
TREND_LOGITS_PER_WEEK2 = 0.001  # makes improvement itself rise from week to week
ANOMALY_LOGITS = -1.2
ANOMALY_ACTIVITY = 0.35
MIN_WEEKS_FOR_ANOMALIES = 8

EARLY_SHARE = 0.8  # learners who are there from the first day; the others join in the first quarter
REVIEW_SHARE = 0.25
REVIEW_MEMORY = 40  # wrong answers that a learner may come back to
READING_SHARE = 0.05
READING_SECONDS = 300
MIN_ANSWERS = 3  # a scored visit
LOG_SECONDS_SD = 0.35
LOG_SECONDS_PER_DIFFICULTY = 0.1
PAUSE_SECONDS = 6.0

MS_PER_SECOND = 1_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000


@dataclass(frozen=True)
class Segment:
    """What the learners of a segment have in common; each learner varies about it."""

    name: str
    share: float
    theta: float
    growth: float
    visits_per_day: float
    answers_per_visit: float
    seconds: float
    speed_up: float
    recovery: float
    hint_rate: float


SEGMENTS = (
    Segment("committed", 0.22, 1.1, 0.00, 0.80, 16, 38, 0.000, 1.4, 0.02),
    Segment("climbing", 0.20, -0.9, 0.16, 0.50, 14, 50, 0.020, 1.0, 0.10),
    Segment("quickening", 0.20, 0.3, 0.02, 0.33, 12, 60, 0.090, 0.4, 0.05),
    Segment("struggling", 0.20, -1.2, -0.02, 0.55, 12, 45, 0.000, -0.9, 0.25),
    Segment("drifting", 0.18, 0.9, 0.00, 0.15, 24, 30, 0.000, 0.4, 0.08),
)
SD_THETA = 0.35
SD_GROWTH = 0.012
SD_LOG_HAZARD = 0.15
SD_SPEED_UP = 0.006
SD_RECOVERY = 0.2


@dataclass(frozen=True)
class Learners:
    """True values of some learners, one element each (units: simulated_truth.learners)."""

    user_id: Array
    segment: Ints
    theta: Floats
    growth: Floats
    log_hazard: Floats
    speed_up: Floats
    recovery: Floats
    hint_rate: Floats
    joined: Ints
    """Days from the first Monday."""

    def slice(self, start: int, stop: int) -> Learners:
        """Return the learners from `start` up to, not including, `stop`."""
        return Learners(*(getattr(self, item.name)[start:stop] for item in fields(self)))

    def __len__(self) -> int:
        return len(self.user_id)


@dataclass(frozen=True)
class Items:
    """True values of the items, one element each."""

    item_id: Array
    topic: Ints
    a: Floats
    b: Floats
    anchor: Bools


@dataclass(frozen=True)
class Weeks:
    """What the calendar does to everybody, one element a week."""

    start: Array
    ability_shift: Floats
    activity_factor: Floats
    anomaly: list[str | None]


def simulate(
    conn: Connection,
    learners: int = 500,
    weeks: int = 16,
    seed: int = 1,
    end: datetime | None = None,
    *,
    dirty: bool = False,
    student_id_form: StudentIdForm = "same",
) -> dict[str, int]:
    """Fill the platform's tables with a simulated log and ``simulated_truth`` with what lies behind it.

    Earlier simulated rows are replaced. The log covers `weeks` whole ISO weeks and the unfinished one up to `end`.
    ``weekly_kpi`` is left empty for compute-weekly-kpis; user ids are in ``features_topic_daily``.

    Args:
        conn: a connection in autocommit mode.
        learners: number of learners, at least 1.
        weeks: complete weeks, at least 1.
        seed: of the random numbers; the same arguments give the same rows.
        end: the moment at which the log ends (now). The complete weeks are the same on every day of a week.
        dirty: also plant what real logs hold: nulls, repeats, rows from the future, negative and tenfold durations.
        student_id_form: how ``attempt.student_id`` is made of a user id.

    Returns:
        The number of rows by table; with `dirty` also how many of each kind of bad row were planted.

    Raises:
        ValueError: an argument is out of range.
        InputFault: the platform's tables hold rows that were not simulated.

    """
    if learners < 1 or weeks < 1:
        raise ValueError(f"learners and weeks must be at least 1, not {learners} and {weeks}")
    end = (end or db.present(conn)).astimezone(UTC)
    monday = datetime.combine(end.date() - timedelta(days=end.weekday()), datetime.min.time(), UTC)
    start = monday - timedelta(weeks=weeks)
    days = (end - start).days + 1
    rng = np.random.default_rng(seed)
    items = _items(rng)
    calendar = _weeks(start, -(-days // 7), weeks)
    everybody = _learners(rng, learners, weeks)
    detail = {
        "learners": learners, "weeks": weeks, "seed": seed, "end": end.isoformat(),
        "dirty": dirty, "student_id_form": student_id_form,
    }  # fmt: skip

    with conn.transaction():
        empty_platform_tables(conn, "simulator", detail)
        _write_truth(conn, everybody, items, calendar, start)
        counts = {"question": _write_questions(conn, items), "attempt": 0}
        for first in range(0, learners, LEARNERS_AT_ONCE):
            batch = everybody.slice(first, first + LEARNERS_AT_ONCE)
            rows = _log(np.random.default_rng([seed, first]), batch, items, calendar, start, days, student_id_form)
            early = rows["started_at"] < np.datetime64(end.replace(tzinfo=None), "us")
            counts["attempt"] += copy_arrays(conn, "attempt", {name: rows[name][early] for name in rows})
        if student_id_form == "md5-uuid":
            # An md5 is mapped back through the ids of the other tables, which are still to be filled.
            conn.execute(db.read_sql("simulate/announce_users.sql"), {"week_start": start.date()})
        counts["features_topic_daily"] = finish_load(conn, end, student_id_form)
        if student_id_form == "md5-uuid":
            conn.execute("TRUNCATE weekly_kpi")
        if dirty:
            counts |= db.fetch_one(conn, db.read_sql("simulate/dirty.sql"), {"end": end})
    conn.execute("ANALYZE")
    return counts


def _items(rng: np.random.Generator) -> Items:
    anchor = np.zeros(N_ITEMS, bool)
    anchor[rng.choice(N_ITEMS, round(N_ITEMS * ANCHOR_SHARE), replace=False)] = True
    return Items(
        item_id=np.array([f"item-{item:03d}".encode() for item in range(N_ITEMS)]),
        topic=np.arange(N_ITEMS) % N_TOPICS,
        a=rng.lognormal(0.1, 0.25, N_ITEMS),
        b=rng.normal(0, 1, N_ITEMS),
        anchor=anchor,
    )


def _weeks(start: datetime, n: int, complete: int) -> Weeks:
    week = np.arange(n)
    shift = TREND_LOGITS_PER_WEEK2 * week**2 + SEASON_LOGITS * np.sin(2 * np.pi * week / SEASON_WEEKS)
    activity = np.ones(n)
    anomaly: list[str | None] = [None] * n
    if complete >= MIN_WEEKS_FOR_ANOMALIES:
        hard, quiet = complete - 3, complete - 6
        anomaly[hard], anomaly[quiet] = "accuracy", "activity"
        shift[hard] += ANOMALY_LOGITS
        activity[quiet] *= ANOMALY_ACTIVITY
    return Weeks(np.datetime64(start.date(), "D") + 7 * week, shift, activity, anomaly)


def _learners(rng: np.random.Generator, n: int, weeks: int) -> Learners:
    shares = np.cumsum([segment.share for segment in SEGMENTS])
    # Segments in fixed proportion even among few learners, in random order.
    segment = rng.permutation(np.searchsorted(shares, (np.arange(n) + 0.5) / n * shares[-1]))

    def of(name: str) -> Floats:
        return _per_segment(name)[segment]

    width = max(6, len(str(n)))
    return Learners(
        user_id=np.array([f"learner-{number:0{width}d}".encode() for number in range(1, n + 1)]),
        segment=segment,
        theta=of("theta") + rng.normal(0, SD_THETA, n),
        growth=of("growth") + rng.normal(0, SD_GROWTH, n),
        log_hazard=np.log(-np.log1p(-of("visits_per_day"))) + rng.normal(0, SD_LOG_HAZARD, n),
        speed_up=of("speed_up") + rng.normal(0, SD_SPEED_UP, n),
        recovery=of("recovery") + rng.normal(0, SD_RECOVERY, n),
        hint_rate=of("hint_rate") * rng.uniform(0.7, 1.3, n),
        joined=np.where(rng.random(n) < EARLY_SHARE, 0, rng.integers(0, max(1, 7 * weeks // 4), n)),
    )


def _per_segment(name: str) -> Floats:
    return np.array([getattr(segment, name) for segment in SEGMENTS], float)


class _Memory:
    """What each learner of a batch carries from visit to visit."""

    def __init__(self, n: int) -> None:
        self.visited: Bools = np.zeros((n, FREQUENCY_DAYS), bool)  # the last days, in a ring
        self.last_day: Ints = np.full(n, -1)
        self.frequency: Floats = np.full(n, FREQUENCY_REFERENCE)
        self.log_gap: Floats = np.zeros(n)
        self.accuracy: Floats = np.full(n, ACCURACY_REFERENCE)
        self.wrong: Bools = np.zeros((n, N_ITEMS), bool)  # the last answer to the item was wrong
        self.review: Ints = np.zeros((n, REVIEW_MEMORY), np.int64)  # items answered wrong, in a ring
        self.mistakes: Ints = np.zeros(n, np.int64)  # so far

    def log_hazard(self) -> Floats:
        """Return what the covariates, as of each learner's last visit, add to the log hazard."""
        return (
            B_FREQUENCY * (self.frequency - FREQUENCY_REFERENCE)
            + B_GAP * self.log_gap
            + B_ACCURACY * (self.accuracy - ACCURACY_REFERENCE)
        )

    def visit(self, visitors: Ints, day: int) -> None:
        """Take in that these learners came on this day."""
        known = self.last_day[visitors] >= 0
        self.log_gap[visitors] = np.where(known, np.log(np.maximum(day - self.last_day[visitors], 1)), 0.0)
        self.last_day[visitors] = day
        self.visited[visitors, day % FREQUENCY_DAYS] = True
        self.frequency[visitors] = self.visited[visitors].mean(axis=1)

    def answer(self, visitors: Ints, visit: Ints, item: Ints, right: Bools) -> None:
        """Take in scored answers: visit (non-decreasing) is the place in `visitors` of who gave each."""
        who = visitors[visit]
        answered = np.bincount(visit, minlength=visitors.size)
        share = np.bincount(visit, weights=right, minlength=visitors.size) / np.maximum(answered, 1)
        self.accuracy[visitors] = np.where(answered > 0, share, self.accuracy[visitors])
        self.wrong[who, item] = ~right
        missed = np.flatnonzero(~right)
        nth = np.arange(missed.size) - np.searchsorted(visit[missed], visit[missed])  # 0, 1, ... within a visit
        self.review[who[missed], (self.mistakes[who[missed]] + nth) % REVIEW_MEMORY] = item[missed]
        self.mistakes[visitors] += np.bincount(visit[missed], minlength=visitors.size)


def _log(
    rng: np.random.Generator,
    learners: Learners,
    items: Items,
    weeks: Weeks,
    start: datetime,
    days: int,
    student_id_form: StudentIdForm,
) -> dict[str, Array]:
    """Simulate a batch of learners day by day; return the columns of ``attempt``."""
    memory = _Memory(len(learners))
    parts = []
    for day in range(days):
        memory.visited[:, day % FREQUENCY_DAYS] = False
        activity = WEEKDAY_ACTIVITY[day % 7] * weeks.activity_factor[day // 7]
        hazard = np.exp(learners.log_hazard + memory.log_hazard()) * activity
        comes = (rng.random(len(learners)) < -np.expm1(-hazard)) & (learners.joined <= day)
        parts.append(_day(rng, learners, items, weeks, memory, np.flatnonzero(comes), day))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    student = learners.user_id
    if student_id_form == "md5-uuid":
        student = np.array([_md5_uuid(user_id) for user_id in student])
    topics = _topics()
    sessions = np.array([f"day-{day:04d}".encode() for day in range(days)])
    unscored = ~columns["scored"]
    started_at = np.datetime64(start.replace(tzinfo=None), "us") + columns["began"].astype("timedelta64[ms]")
    return {
        "student_id": student[columns["learner"]],
        "item_id": items.item_id[columns["item"]],
        "correct": np.ma.masked_array(columns["right"], unscored),
        "response_time_ms": np.ma.masked_array(columns["took"].astype(np.int32), unscored),
        "hint_used": np.ma.masked_array(columns["hint"], unscored),
        "started_at": started_at,
        "completed_at": started_at + columns["took"].astype("timedelta64[ms]"),
        "session_id": sessions[columns["day"]],
        "topic_id": topics[items.topic[columns["item"]]],
    }


def _day(
    rng: np.random.Generator,
    learners: Learners,
    items: Items,
    weeks: Weeks,
    memory: _Memory,
    visitors: Ints,
    day: int,
) -> dict[str, Array]:
    """Simulate the visits of one day, at most one a learner.

    Returns:
        Columns with one element per row of the log: learner (place in the batch), item, right, scored, hint,
        took (ms), began (ms from the first day's midnight) and day.

    """
    n = visitors.size
    reading = rng.random(n) < READING_SHARE
    mean_answers = _per_segment("answers_per_visit")[learners.segment[visitors]]
    answers = np.where(reading, 1, MIN_ANSWERS + rng.poisson(mean_answers - MIN_ANSWERS))
    visit = np.repeat(np.arange(n), answers)
    who = visitors[visit]
    rows = who.size

    remembered = np.minimum(memory.mistakes[who], REVIEW_MEMORY)
    reviewed = (rng.random(rows) < REVIEW_SHARE) & (remembered > 0)
    place = (rng.random(rows) * remembered).astype(np.int64)
    # New items are those of the visit's topic, in an order of its own, none twice before all were seen.
    first = np.cumsum(answers) - answers
    nth = np.arange(rows) - first[visit]
    topic, begin, step = rng.integers(0, N_TOPICS, n), rng.integers(0, TOPIC_ITEMS, n), rng.choice(TOPIC_STEPS, n)
    of_topic = topic[visit] + N_TOPICS * ((begin[visit] + step[visit] * nth) % TOPIC_ITEMS)
    item = np.where(reviewed, memory.review[who, place], of_topic)

    weeks_on = day / 7
    ability = learners.theta[who] + learners.growth[who] * weeks_on + weeks.ability_shift[day // 7]
    logit = items.a[item] * (ability - items.b[item]) + learners.recovery[who] * memory.wrong[who, item]
    right = rng.random(rows) < 1 / (1 + np.exp(-logit))
    hint = rng.random(rows) < learners.hint_rate[who]
    log_seconds = (
        np.log(_per_segment("seconds"))[learners.segment[who]]
        + LOG_SECONDS_PER_DIFFICULTY * items.b[item]
        - learners.speed_up[who] * weeks_on
    )
    log_seconds = np.where(reading[visit], np.log(READING_SECONDS), log_seconds) + rng.normal(0, LOG_SECONDS_SD, rows)
    took = np.rint(np.exp(log_seconds) * MS_PER_SECOND).astype(np.int64)

    # Visits begin between 6 and 20 hours UTC, as a rule in the afternoon; their rows follow one another.
    opens = np.rint(np.clip(rng.normal(16, 3, n), 6, 20) * MS_PER_HOUR).astype(np.int64)
    spent = took + np.rint(rng.exponential(PAUSE_SECONDS * MS_PER_SECOND, rows)).astype(np.int64)
    before = np.cumsum(spent) - spent
    began = day * MS_PER_DAY + opens[visit] + before - before[first][visit]

    scored = ~reading[visit]
    memory.visit(visitors, day)
    memory.answer(visitors, visit[scored], item[scored], right[scored])
    return {
        "learner": who,
        "item": item,
        "right": right,
        "scored": scored,
        "hint": hint,
        "took": took,
        "began": began,
        "day": np.full(rows, day),
    }


def _topics() -> Array:
    return np.array([f"topic-{topic:02d}".encode() for topic in range(N_TOPICS)])


def _md5_uuid(user_id: bytes) -> bytes:
    digest = hashlib.md5(user_id, usedforsecurity=False).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:])).encode()


def _write_questions(conn: Connection, items: Items) -> int:
    topics = _topics()[items.topic]
    rows = [
        (item_id.decode(), topic.decode(), Jsonb(_meta(a, b, anchor)))
        for item_id, topic, a, b, anchor in zip(items.item_id, topics, items.a, items.b, items.anchor, strict=True)
    ]
    with conn.cursor() as cursor:
        cursor.executemany("INSERT INTO question (id, topic_id, meta) VALUES (%s, %s, %s)", rows)
    return len(rows)


def _meta(a: float, b: float, anchor: bool) -> dict[str, Any]:
    # The platform knows the parameters of its anchors only: those of the other items are what calibration is for.
    if not anchor:
        return {"tags": []}
    return {"irt": {"a": float(a), "b": float(b), "c": 0, "model": "2PL", "version": "simulated"}, "tags": ["anchor"]}


def _write_truth(conn: Connection, learners: Learners, items: Items, weeks: Weeks, start: datetime) -> None:
    numbers = ("theta", "growth", "log_hazard", "speed_up", "recovery", "hint_rate")
    copy_arrays(
        conn,
        "simulated_truth.learners",
        {
            "user_id": learners.user_id,
            "segment": np.array([segment.name for segment in SEGMENTS])[learners.segment],
            **{name: getattr(learners, name) for name in numbers},
            "joined_on": np.datetime64(start.date(), "D") + learners.joined,
        },
    )
    copy_arrays(
        conn,
        "simulated_truth.items",
        {
            "item_id": items.item_id,
            "topic_id": _topics()[items.topic],
            "a": items.a,
            "b": items.b,
            "anchor": items.anchor,
        },
    )
    copy_arrays(
        conn,
        "simulated_truth.weeks",
        {
            "week_start": weeks.start,
            "ability_shift": weeks.ability_shift,
            "activity_factor": weeks.activity_factor,
            "anomaly": np.ma.masked_array(
                [name or "" for name in weeks.anomaly], [name is None for name in weeks.anomaly]
            ),
        },
    )
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO simulated_truth.parameters (name, value, meaning) VALUES (%s, %s, %s)",
            [
                ("frequency", B_FREQUENCY, "log hazard per unit share of the last visit's 14 days with a visit"),
                ("log_gap", B_GAP, "log hazard per log day between the last two visits"),
                ("accuracy", B_ACCURACY, "log hazard per unit share right at the last visit"),
            ],
        )
