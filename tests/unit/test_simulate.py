"""The simulated log has the truth that it says it has."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest
from seed_analytics import simulate as sim

MONDAY = datetime(2025, 6, 2, tzinfo=UTC)
WEEKS = 16
DAYS = 7 * WEEKS
EPOCH = np.datetime64(MONDAY.replace(tzinfo=None), "D")


class Log:
    """A simulated log and the truth behind it, in places instead of ids."""

    def __init__(self, learners: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.items = sim._items(rng)
        self.weeks = sim._weeks(MONDAY, WEEKS, WEEKS)
        self.learners = sim._learners(rng, learners, DAYS)
        rows = sim._log(rng, self.learners, self.items, self.weeks, MONDAY, DAYS, "same")
        self.rows = rows
        self.learner = np.searchsorted(self.learners.user_id, rows["student_id"])
        self.item = np.searchsorted(self.items.item_id, rows["item_id"])
        self.day = (rows["started_at"] - EPOCH) // np.timedelta64(1, "D")
        self.scored = ~np.ma.getmaskarray(rows["correct"])
        self.right = np.ma.getdata(rows["correct"])


@cache
def log() -> Log:
    return Log(400, 7)


def test_first_answers_follow_the_two_parameter_model() -> None:
    it = log()
    order = np.argsort(it.rows["started_at"][it.scored], kind="stable")
    learner, item, day, right = (each[it.scored][order] for each in (it.learner, it.item, it.day, it.right))
    _, first = np.unique(learner * sim.N_ITEMS + item, return_index=True)
    learner, item, day, right = learner[first], item[first], day[first], right[first]
    theta = it.learners.theta[learner] + it.learners.growth[learner] * day / 7 + it.weeks.ability_shift[day // 7]
    p = 1 / (1 + np.exp(-it.items.a[item] * (theta - it.items.b[item])))
    assert right.size > 30_000
    for low in np.arange(0, 1, 0.1):
        cell = (p >= low) & (p < low + 0.1)
        z = (right[cell] - p[cell]).sum() / np.sqrt((p[cell] * (1 - p[cell])).sum())
        assert abs(z) < 4, f"predicted {low:.1f}-{low + 0.1:.1f}"


def test_visits_follow_the_hazard() -> None:
    # Discrete-time proportional hazards: P(visit on a day) = 1 - exp(-hazard). Maximum likelihood by Newton's method
    # must return the coefficients, with everything else of the hazard known.
    it = log()
    n = len(it.learners)
    came = np.zeros((n, DAYS), bool)
    came[it.learner, it.day] = True
    cell = it.learner * DAYS + it.day
    answered = np.bincount(cell[it.scored], minlength=n * DAYS).reshape(n, DAYS)
    right = np.bincount(cell[it.scored], weights=it.right[it.scored], minlength=n * DAYS).reshape(n, DAYS)

    x, offset, y = [], [], []
    for learner in range(n):
        frequency, log_gap, accuracy, last = sim.FREQUENCY_REFERENCE, 0.0, sim.ACCURACY_REFERENCE, None
        for day in range(int(it.learners.joined[learner]), DAYS):
            x.append((frequency, log_gap, accuracy))
            calendar = sim.WEEKDAY_ACTIVITY[day % 7] * it.weeks.activity_factor[day // 7]
            offset.append(it.learners.log_hazard[learner] + np.log(calendar))
            y.append(came[learner, day])
            if came[learner, day]:
                log_gap = 0.0 if last is None else np.log(day - last)
                last = day
                frequency = came[learner, max(0, day - sim.FREQUENCY_DAYS + 1) : day + 1].sum() / sim.FREQUENCY_DAYS
                if answered[learner, day]:
                    accuracy = right[learner, day] / answered[learner, day]
    x_ = np.array(x) - (sim.FREQUENCY_REFERENCE, 0, sim.ACCURACY_REFERENCE)
    offset_, y_ = np.array(offset), np.array(y)
    beta = np.zeros(3)
    for _ in range(25):
        hazard = np.exp(offset_ + x_ @ beta)
        p = -np.expm1(-hazard)
        score = x_.T @ (hazard * (y_ / p - 1))
        information = (x_ * (hazard**2 * (1 - p) / p)[:, None]).T @ x_
        beta += np.linalg.solve(information, score)
    se = np.sqrt(np.diag(np.linalg.inv(information)))
    z = (beta - (sim.B_FREQUENCY, sim.B_GAP, sim.B_ACCURACY)) / se
    assert np.abs(z).max() < 3.5
    assert se.max() < 0.1  # or the test would accept anything


def test_wrong_items_are_recovered_as_the_truth_says() -> None:
    it = log()
    memory = np.full((len(it.learners), sim.N_ITEMS), -1)
    z = expected = variance = 0.0
    again = 0
    order = np.flatnonzero(it.scored)[np.argsort(it.rows["started_at"][it.scored], kind="stable")]
    last_day = np.full_like(memory, -1)
    for row in order:
        learner, item, day = it.learner[row], it.item[row], it.day[row]
        # within a visit the simulator looks at what was known before it
        if memory[learner, item] == 0 and last_day[learner, item] < day:
            theta = it.learners.theta[learner] + it.learners.growth[learner] * day / 7
            theta += it.weeks.ability_shift[day // 7]
            logit = it.items.a[item] * (theta - it.items.b[item]) + it.learners.recovery[learner]
            p = 1 / (1 + np.exp(-logit))
            z += it.right[row] - p
            variance += p * (1 - p)
            expected += p
            again += 1
        memory[learner, item], last_day[learner, item] = it.right[row], day
    assert again > 10_000
    assert 0.2 < expected / again < 0.8
    assert abs(z / np.sqrt(variance)) < 4


def test_answers_get_faster_by_speed_up() -> None:
    it = log()
    took = np.log(np.ma.getdata(it.rows["response_time_ms"])[it.scored])
    learner, item, week = it.learner[it.scored], it.item[it.scored], it.day[it.scored] / 7
    # minus known slope and difficulty, what is left has a mean for each learner and no trend
    left = took + it.learners.speed_up[learner] * week - sim.LOG_SECONDS_PER_DIFFICULTY * it.items.b[item]
    count = np.maximum(np.bincount(learner), 1)
    left -= (np.bincount(learner, left) / count)[learner]
    weeks = week - (np.bincount(learner, week) / count)[learner]
    slope = (left * weeks).sum() / (weeks**2).sum()
    assert abs(slope) < 4 * sim.LOG_SECONDS_SD / np.sqrt((weeks**2).sum())
    assert left.std() == pytest.approx(sim.LOG_SECONDS_SD, rel=0.02)


def test_segments_have_their_shares() -> None:
    counts = np.bincount(log().learners.segment, minlength=len(sim.SEGMENTS))
    assert counts.tolist() == [round(400 * segment.share) for segment in sim.SEGMENTS]


def test_few_learners_and_weeks_are_enough() -> None:
    for learners in (1, 2, 3, 7):
        assert Log(learners, 1).rows["student_id"].size > 0
    assert all(name is None for name in sim._weeks(MONDAY, 3, 2).anomaly)


def test_planted_weeks_differ_from_their_neighbours() -> None:
    it = log()
    week = it.day // 7
    accuracy = np.bincount(week[it.scored], it.right[it.scored]) / np.bincount(week[it.scored])
    visits = np.bincount(week)
    hard, quiet = it.weeks.anomaly.index("accuracy"), it.weeks.anomaly.index("activity")
    assert accuracy[hard] < min(accuracy[hard - 1], accuracy[hard + 1]) - 0.1
    assert visits[quiet] < 0.7 * min(visits[quiet - 1], visits[quiet + 1])
    assert sum(name is not None for name in it.weeks.anomaly) == 2


def test_some_visits_are_unscored_and_know_neither_time_nor_hint() -> None:
    it = log()
    unscored = ~it.scored
    visits = np.unique(np.stack([it.learner, it.day]), axis=1).shape[1]
    assert unscored.sum() / visits == pytest.approx(sim.READING_SHARE, rel=0.1)
    for name in ("response_time_ms", "hint_used"):
        assert (np.ma.getmaskarray(it.rows[name]) == unscored).all()


def test_a_learners_rows_do_not_overlap_and_stay_within_their_day() -> None:
    it = log()
    order = np.lexsort((it.rows["started_at"], it.learner))
    started, completed, learner = it.rows["started_at"][order], it.rows["completed_at"][order], it.learner[order]
    same = learner[1:] == learner[:-1]
    assert (started[1:][same] >= completed[:-1][same]).all()
    assert (completed.astype("datetime64[D]") == started.astype("datetime64[D]")).mean() > 0.999


def test_same_seed_same_log_and_other_seed_another() -> None:
    one, same, other = Log(20, 3), Log(20, 3), Log(20, 4)
    for name, values in one.rows.items():
        assert np.ma.allequal(values, same.rows[name])
    assert (
        one.rows["started_at"].size != other.rows["started_at"].size
        or (one.rows["started_at"] != other.rows["started_at"]).any()
    )


@pytest.mark.parametrize("arguments", [{"learners": 0}, {"weeks": 0}, {"learners": -5}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sim.simulate(None, **arguments)  # type: ignore[arg-type]
