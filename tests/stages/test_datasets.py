"""The adapters of the public data sets, on the real files, counted again with pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from seed_analytics import datasets
from seed_analytics.datasets import oulad, tables
from seed_analytics.errors import ExitCode, InputFault, UsageFault
from seed_analytics.local import Postgres
from seed_analytics.simulate import simulate
from support import SHARED, Database, copy_of, invoke

OULAD, MEMPHIS = SHARED / "data/oulad", SHARED / "data/irt"
NOW = datetime(2025, 11, 2, 7, 15, tzinfo=UTC)

needs_oulad = pytest.mark.skipif(not OULAD.is_dir(), reason="the OULAD files are not beside the project")
needs_memphis = pytest.mark.skipif(not MEMPHIS.is_dir(), reason="the Memphis file is not beside the project")

# Two presentations of one module: some students are in both.
SHORT = ["AAA-2013J", "AAA-2014J"]


@pytest.fixture(scope="module")
def short(postgres: Postgres, empty_template: str) -> Iterator[Database]:
    """A database with the presentations of SHORT, to look at only."""
    url = postgres.create_database("oulad_short", template=empty_template)
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as conn:
        oulad.load(conn, OULAD, NOW, SHORT)
        yield Database(url, conn)


def rows_of(name: str, module: str, presentation: str) -> pa.Table:
    table = pq.read_table(OULAD / name)
    if "code_module" not in table.column_names:
        table = table.join(pq.read_table(OULAD / "assessments.parquet"), "id_assessment")
    return table.filter((pc.field("code_module") == module) & (pc.field("code_presentation") == presentation))


@needs_oulad
def test_oulad_holds_every_submission_and_every_day_of_clicks(database: Database) -> None:
    counts = datasets.load(database.conn, OULAD, NOW)
    found = dict(
        database(
            "SELECT substr(student_id, 1, 9), array[count(*) FILTER (WHERE item_id LIKE 'assessment-%'), "
            "count(correct), count(*) FILTER (WHERE correct), count(*) FILTER (WHERE item_id LIKE 'site-%'), "
            "count(DISTINCT student_id)] FROM attempt GROUP BY 1"
        )
    )
    # BBB-2013J is cut off in the file; of the other presentations there are no clicks
    assert set(found) == {"AAA-2013J", "AAA-2014J", "BBB-2013B"}
    for name, counted in found.items():
        graded = rows_of("studentAssessment.parquet", *name.split("-"))
        graded = graded.filter(pc.field("is_banked") == 0)
        clicks = rows_of(oulad.CLICKS, *name.split("-"))
        students = set(graded["id_student"].to_pylist()) | set(clicks["id_student"].to_pylist())
        assert counted == [
            graded.num_rows,
            graded.num_rows - graded["score"].null_count,
            pc.sum(pc.greater_equal(graded["score"], 40)).as_py(),
            clicks.group_by(["id_student", "id_site", "date"]).aggregate([]).num_rows,
            len(students),
        ]
    assert counts["attempt"] == database("SELECT count(*) FROM attempt")[0][0]
    assert counts["question"] == 24


@needs_oulad
def test_oulad_ends_now_on_the_weekday_it_ended(short: Database) -> None:
    for name in SHORT:
        ((first, last),) = short("SELECT min(started_at), max(started_at) FROM attempt WHERE student_id ~ %s", name)
        days = rows_of(oulad.CLICKS, *name.split("-"))["date"]
        began, ended = pc.min(days).as_py(), pc.max(days).as_py()
        assert timedelta() < NOW - last <= timedelta(days=7)
        assert last - first == timedelta(days=ended - began)
        assert last.weekday() == (5 + ended) % 7  # day 0 is a Saturday
    # deadlines of the module fall on Thursdays; most submissions come on that day or the two before
    by_day = dict(short("SELECT extract(isodow FROM started_at)::int, count(correct) FROM attempt GROUP BY 1"))
    assert max(by_day, key=by_day.__getitem__) == 4


@needs_oulad
def test_enrolments_of_one_student_are_two_learners(short: Database) -> None:
    ((learners, students),) = short(
        "SELECT count(DISTINCT student_id), count(DISTINCT split_part(student_id, '-', 3)) FROM attempt"
    )
    assert learners > students


@needs_oulad
def test_sessions_are_a_learners_days(short: Database) -> None:
    assert short(
        "SELECT count(DISTINCT (student_id, session_id)) = count(DISTINCT (student_id, started_at)) FROM attempt"
    ) == [(True,)]


@needs_oulad
@pytest.mark.parametrize("name", ["BBB-2013J", "CCC-2014B", "nonsense"])
def test_presentation_that_is_not_there_in_full_is_refused(database: Database, name: str) -> None:
    with pytest.raises(UsageFault, match=name):
        oulad.load(database.conn, OULAD, NOW, ["AAA-2013J", name])


@needs_oulad
def test_visits_are_no_answers_in_the_kpis(database: Database) -> None:
    now = datetime.now(UTC)
    oulad.load(database.conn, OULAD, now, ["BBB-2013B"])
    assert invoke("compute-weekly-kpis", "--kpi-lookback-weeks", "6", env={"DATABASE_URL": database.url}) == 0
    ((attempts, graded),) = database(
        "SELECT (SELECT sum((kpis ->> 'attempts')::int) FROM weekly_kpi), (SELECT count(correct) FROM attempt WHERE"
        " date_trunc('week', started_at)::date >= (SELECT min(week_start) FROM weekly_kpi))"
    )
    assert attempts == graded > 0
    assert database("SELECT max((kpis ->> 'sessions')::int) > 20 FROM weekly_kpi") == [(True,)]


@needs_memphis
def test_memphis_holds_every_trial(database: Database) -> None:
    counts = datasets.load(database.conn, MEMPHIS, NOW)
    assert counts == {"question": 144, "attempt": 58_316, "features_topic_daily": counts["features_topic_daily"]}
    # numbers of the file: 30,045 right, 25,077 wrong, 3,194 study trials
    assert database("SELECT correct, count(*) FROM attempt GROUP BY 1 ORDER BY 1") == [
        (False, 25_077),
        (True, 30_045),
        (None, 3_194),
    ]
    assert database("SELECT count(DISTINCT student_id), count(DISTINCT topic_id) FROM attempt") == [(478, 36)]
    ((spent, took, end),) = database(
        "SELECT sum(extract(epoch FROM completed_at - started_at)), sum(greatest(response_time_ms, 0)) / 1000.0,"
        " max(completed_at) FROM attempt"
    )
    assert float(spent) == pytest.approx(float(took))
    assert timedelta() < NOW - end <= timedelta(days=7)
    assert end.weekday() == 0  # 2015-12-07 was a Monday


@needs_memphis
def test_each_load_replaces_the_one_before(database: Database) -> None:
    simulate(database.conn, learners=5, weeks=2)
    datasets.load(database.conn, MEMPHIS, NOW)
    assert database("SELECT source FROM simulated_truth.origin") == [("memphis",)]
    assert database("SELECT count(*), min(left(student_id, 4)) FROM attempt") == [(58_316, "Stu_")]
    assert database("SELECT count(*) FROM simulated_truth.learners") == [(0,)]
    counts = simulate(database.conn, learners=5, weeks=2)
    assert database("SELECT source FROM simulated_truth.origin") == [("simulator",)]
    assert database("SELECT count(*) FROM attempt") == [(counts["attempt"],)]


REAL_ROWS = {
    "attempt": "INSERT INTO attempt (student_id, item_id, started_at) VALUES ('ada', 'i1', now())",
    "weekly_kpi": "INSERT INTO weekly_kpi (user_id, week_start) VALUES ('ada', '2025-10-27')",
    "features_topic_daily": "INSERT INTO features_topic_daily VALUES ('ada', 't1', '2025-10-27', 1, 1, 900, 0)",
    "question": "INSERT INTO question (id) VALUES ('i1')",
}


@pytest.mark.parametrize("table", REAL_ROWS)
@pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda conn: simulate(conn, learners=5, weeks=2), id="simulate"),
        pytest.param(lambda conn: datasets.load(conn, MEMPHIS, NOW), id="load", marks=needs_memphis),
    ],
)
def test_rows_of_a_real_platform_are_left_alone(database: Database, table: str, load: Callable[[Any], Any]) -> None:
    database(REAL_ROWS[table])
    with pytest.raises(InputFault, match=f"in {table}, and they are left alone"):
        load(database.conn)
    assert database(f"SELECT count(*) FROM {table}") == [(1,)]


@pytest.mark.parametrize(
    ("flags", "code"), [(("--learners", "5", "--weeks", "2"), ExitCode.INPUT), (("--if-empty",), ExitCode.OK)]
)
def test_refused_load_leaves_a_real_platform_as_it_was(postgres: Postgres, flags: tuple[str, ...], code: int) -> None:
    for real in copy_of(postgres, "template1", "real_platform"):
        real("CREATE TABLE attempt (id int, student_id text, item_id text, started_at timestamptz)")
        real("INSERT INTO attempt VALUES (1, 'ada', 'i1', now())")
        assert invoke("simulate", *flags, env={"DATABASE_URL": real.url}) == code
        assert real("SELECT count(*) FROM attempt") == [(1,)]
        assert real("SELECT to_regnamespace('simulated_truth'), to_regclass('question')") == [(None, None)]
        assert real("SELECT count(*) FROM pg_index WHERE indrelid = 'attempt'::regclass") == [(0,)]


def test_directory_without_a_known_data_set_is_a_usage_fault(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grades.csv").write_text("student,grade\n")
    assert invoke("load", str(tmp_path), env={"DATABASE_URL": database.url}) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "oulad: courses.parquet" in said
    assert "memphis: memphis5513_statcloze.parquet" in said


EXPORTED = {
    "attempt": "student_id, item_id, correct, started_at, completed_at, response_time_ms, hint_used, session_id, topic_id",
    "question": "id, topic_id, meta::text AS meta",
    "weekly_kpi": "user_id, week_start, kpis::text AS kpis",
    "features_topic_daily": "user_id, topic_id, date, attempts, correct, rt_median, hints",
}
DATES = ("started_at", "completed_at", "week_start", "date")


def rows_in(database: Database, table: str) -> list[dict[str, Any]]:
    cursor = database.conn.execute(f"SELECT {EXPORTED[table]} FROM {table}")
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def export(database: Database, folder: Path, form: str) -> None:
    """Write every table to a file, each with a column that the platform's tables do not have."""
    for table, columns in EXPORTED.items():
        if form == "csv":
            query = f"COPY (SELECT 'x' AS own, {columns} FROM {table}) TO STDOUT (FORMAT csv, HEADER)"
            with database.conn.cursor() as cursor, cursor.copy(query) as copy:
                (folder / f"{table}.csv").write_bytes(b"".join(copy))
        else:
            rows = [{"own": "x"} | row for row in rows_in(database, table)]
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_exports_come_back_as_they_were_but_end_now(database: Database, tmp_path: Path, form: str) -> None:
    simulate(database.conn, learners=8, weeks=3, end=datetime(2025, 10, 13, tzinfo=UTC))
    assert invoke("compute-weekly-kpis", "--as-of", "2025-10-13", env={"DATABASE_URL": database.url}) == ExitCode.OK
    # Signs that a file must quote; and a clock that ran ahead, which must not decide how far dates are moved.
    odd = 'i "1",\n\\N'
    database(
        "INSERT INTO attempt (student_id, item_id, session_id, started_at) VALUES ('ada', %s, '', '2030-01-01Z')", odd
    )
    before = {table: rows_in(database, table) for table in EXPORTED}
    export(database, tmp_path, form)
    counts = datasets.load(database.conn, tmp_path, NOW)
    assert counts == {table: len(rows) for table, rows in before.items()}
    for table, rows in before.items():
        moved = [
            {name: value + timedelta(days=14) if name in DATES and value else value for name, value in row.items()}
            for row in rows
        ]
        assert sorted(map(repr, rows_in(database, table))) == sorted(map(repr, moved)), table
    assert database("SELECT count(*) FROM pg_indexes WHERE tablename = 'attempt'") == [(3,)]


def test_exports_of_the_log_alone_are_enough(database: Database, tmp_path: Path) -> None:
    (tmp_path / "attempt.csv").write_text("student_id,item_id,correct,started_at\nada,i1,true,2025-10-20T10:00:00Z\n")
    assert datasets.load(database.conn, tmp_path, NOW) == {"attempt": 1}
    assert database("SELECT student_id, correct, started_at < %s FROM attempt", NOW) == [("ada", True, True)]


def test_export_without_a_column_that_is_needed_is_an_input_fault(database: Database, tmp_path: Path) -> None:
    (tmp_path / "attempt.csv").write_text("student_id,correct,started_at\nada,true,2025-10-20T10:00:00Z\n")
    with pytest.raises(InputFault, match=r"attempt\.csv lacks the column\(s\) item_id"):
        datasets.load(database.conn, tmp_path, NOW)
    assert database("SELECT count(*) FROM attempt") == [(0,)]


def test_broken_or_foreign_file_is_an_input_fault(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "memphis5513_statcloze.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputFault, match="cannot be read as Parquet"):
        datasets.load(database.conn, tmp_path, NOW)
    pq.write_table(pa.table({"user_id": ["ada"]}), file)
    with pytest.raises(InputFault, match="item_id"):
        datasets.load(database.conn, tmp_path, NOW)
    assert database("SELECT count(*) FROM attempt") == [(0,)]


@pytest.mark.parametrize(
    ("presentation", "day"), [("2013B", "2013-02-02"), ("2013J", "2013-10-05"), ("2014J", "2014-10-04")]
)
def test_presentations_start_on_the_first_saturday(presentation: str, day: str) -> None:
    assert oulad.start(presentation) == np.datetime64(day)


@pytest.mark.parametrize("ahead", [-400, -1, 0, 1, 6, 7, 8, 4000])
def test_dates_move_by_whole_weeks_to_just_before_now(ahead: int) -> None:
    times = np.array(["2025-10-20T10:00", "2025-11-02T07:15"], "datetime64[us]") + np.timedelta64(ahead, "D")
    moved = tables.shift_to_end_by(times, NOW)
    assert (moved - times)[0] == (moved - times)[1]
    assert (moved - times)[0] % tables.WEEK == np.timedelta64(0)
    left = np.datetime64(NOW.replace(tzinfo=None), "us") - moved.max()
    assert np.timedelta64(0) < left <= tables.WEEK
