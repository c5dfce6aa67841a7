"""What the simulator leaves in the database: the platform's tables, and the truth apart from them."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from seed_analytics.simulate import N_ITEMS, simulate
from support import Database, invoke

END = datetime(2025, 11, 5, 12, tzinfo=UTC)  # a Wednesday
BAD = ("no_student", "no_item", "no_time", "future", "duplicate", "negative", "tenfold")


def test_log_covers_whole_weeks_and_ends_in_the_unfinished_one(database: Database) -> None:
    simulate(database.conn, learners=60, weeks=6, end=END)
    ((first, last, later),) = database(
        "SELECT min(started_at), max(started_at), count(*) FILTER (WHERE started_at >= %s) FROM attempt", END
    )
    assert first.date() == (END - timedelta(days=2, weeks=6)).date()  # six weeks before the Monday
    assert timedelta() < END - last < timedelta(days=1)
    assert later == 0
    assert database("SELECT count(DISTINCT date_trunc('week', started_at)) FROM attempt") == [(7,)]


def test_counts_are_those_of_the_tables(database: Database) -> None:
    counts = simulate(database.conn, learners=30, weeks=4, end=END)
    assert counts == {
        "question": N_ITEMS,
        "attempt": database("SELECT count(*) FROM attempt")[0][0],
        "features_topic_daily": database("SELECT count(*) FROM features_topic_daily")[0][0],
    }
    assert database("SELECT count(*) FROM weekly_kpi") == [(0,)]
    assert database("SELECT count(*) FROM simulated_truth.learners") == [(30,)]
    assert database("SELECT count(DISTINCT segment) FROM simulated_truth.learners") == [(5,)]


def test_platform_knows_the_parameters_of_its_anchors_only(database: Database) -> None:
    simulate(database.conn, learners=2, weeks=1, end=END)
    assert database(
        "SELECT anchor, count(*), bool_and(anchor = (meta -> 'tags' ? 'anchor')), bool_and(anchor = (meta ? 'irt')),"
        " bool_and((meta #>> '{irt,a}')::float = a AND (meta #>> '{irt,b}')::float = b), bool_and(q.topic_id = i.topic_id)"
        " FROM question AS q JOIN simulated_truth.items AS i ON i.item_id = q.id GROUP BY anchor ORDER BY anchor"
    ) == [(False, 160, True, True, None, True), (True, 40, True, True, True, True)]


def test_truth_is_not_in_the_platforms_tables(database: Database) -> None:
    simulate(database.conn, learners=2, weeks=1, end=END)
    assert database("SELECT count(*) FROM information_schema.columns WHERE column_name IN ('theta', 'segment')"
                    " AND table_name IN ('attempt', 'question', 'weekly_kpi', 'features_topic_daily')") == [(0,)]  # fmt: skip


def test_features_are_the_scored_answers_by_topic_and_day(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=3, end=END)
    ((attempts, correct, hints),) = database("SELECT sum(attempts), sum(correct), sum(hints) FROM features_topic_daily")
    assert database("SELECT count(correct), count(*) FILTER (WHERE correct), count(*) FILTER (WHERE hint_used) FROM attempt") == [
        (attempts, correct, hints)
    ]  # fmt: skip
    user, topic, date, middle = database(
        "SELECT user_id, topic_id, date, rt_median FROM features_topic_daily ORDER BY attempts DESC, 1, 2, 3 LIMIT 1"
    )[0]
    times = sorted(
        ms
        for (ms,) in database(
            "SELECT response_time_ms FROM attempt WHERE student_id = %s AND topic_id = %s AND started_at::date = %s"
            " AND correct IS NOT NULL",
            user,
            topic,
            date,
        )
    )
    assert middle == times[(len(times) - 1) // 2]


def test_same_arguments_same_rows(database: Database) -> None:
    digest = "SELECT md5(string_agg(a::text, '|' ORDER BY id)) FROM attempt AS a"
    found = []
    for seed in (1, 1, 2):
        simulate(database.conn, learners=40, weeks=3, seed=seed, end=END)
        found += database(digest)
    assert found[0] == found[1] != found[2]


def test_complete_weeks_are_the_same_on_every_day_of_a_week(database: Database) -> None:
    monday = END.date() - timedelta(days=END.weekday())
    found = []
    for day in (0, 2, 6):
        simulate(database.conn, learners=40, weeks=3, end=END + timedelta(days=day - END.weekday()))
        found += database(
            "SELECT md5(string_agg(concat_ws(' ', student_id, item_id, started_at, completed_at, correct), '|' ORDER BY id))"
            " FROM attempt WHERE started_at < %s",
            monday,
        )
    assert len(set(found)) == 1


def test_md5_form_is_the_same_log_under_other_ids(database: Database) -> None:
    simulate(database.conn, learners=40, weeks=3, end=END)
    features = database("SELECT * FROM features_topic_daily ORDER BY 1, 2, 3")
    rows = database("SELECT md5(student_id)::uuid::text, started_at, item_id, correct FROM attempt ORDER BY id")
    simulate(database.conn, learners=40, weeks=3, end=END, student_id_form="md5-uuid")
    assert database("SELECT student_id, started_at, item_id, correct FROM attempt ORDER BY id") == rows
    assert database("SELECT * FROM features_topic_daily ORDER BY 1, 2, 3") == features
    assert database("SELECT count(*) FROM weekly_kpi") == [(0,)]


def test_dirty_plants_each_kind_of_bad_row(database: Database) -> None:
    clean = simulate(database.conn, learners=60, weeks=4, end=END)
    times = dict(database("SELECT id, response_time_ms FROM attempt"))
    counts = simulate(database.conn, learners=60, weeks=4, end=END, dirty=True)
    planted = {name: counts[name] for name in BAD}
    assert min(planted.values()) > 10
    found = database(
        "SELECT count(*) FILTER (WHERE student_id IS NULL), count(*) FILTER (WHERE item_id IS NULL),"
        " count(*) FILTER (WHERE started_at IS NULL), count(*) FILTER (WHERE started_at >= %s),"
        " count(*) FILTER (WHERE response_time_ms < 0 AND completed_at < started_at) FROM attempt",
        END,
    )[0]
    assert found == tuple(planted[name] for name in ("no_student", "no_item", "no_time", "future", "negative"))
    assert database("SELECT count(*) FROM attempt")[0][0] == clean["attempt"] + sum(
        planted[name] for name in ("no_student", "no_item", "no_time", "future", "duplicate")
    )
    now = dict(database("SELECT id, response_time_ms FROM attempt WHERE id <= %s", clean["attempt"]))
    assert sum(now[row] is not None and now[row] == 10 * times[row] for row in now) == planted["tenfold"]


def test_memory_does_not_grow_with_the_learners(database: Database) -> None:
    peaks = []
    for learners in (500, 1500):
        tracemalloc.start()
        simulate(database.conn, learners=learners, weeks=4, end=END)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_command_simulates_what_its_flags_say(database: Database) -> None:
    flags = ("--learners", "25", "--weeks", "3", "--seed", "9", "--as-of", "2025-11-05")
    assert invoke("simulate", *flags, env={"DATABASE_URL": database.url}) == 0
    assert database("SELECT detail -> 'learners', detail -> 'weeks', detail -> 'seed' FROM simulated_truth.origin") == [
        (25, 3, 9)
    ]
    assert database("SELECT max(started_at) < '2025-11-05T00:00Z' FROM attempt") == [(True,)]


def test_failed_load_leaves_the_earlier_one(database: Database) -> None:
    simulate(database.conn, learners=10, weeks=2, end=END)
    before = database("SELECT count(*), min(id), max(started_at) FROM attempt")
    # something in the middle of the load fails
    database("ALTER TABLE features_topic_daily ADD CHECK (attempts < 0) NOT VALID")
    with pytest.raises(psycopg.errors.CheckViolation):
        simulate(database.conn, learners=20, weeks=2, end=END)
    assert database("SELECT count(*), min(id), max(started_at) FROM attempt") == before
