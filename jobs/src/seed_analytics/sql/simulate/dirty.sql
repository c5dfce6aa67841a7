-- Plants what real logs hold, in a repeatable choice of rows; returns how many of each kind.
-- Repeats are copies of rows that nothing else changes, so that the clean log is the same with and without them.
WITH no_student AS (
    INSERT INTO attempt (student_id, item_id, correct, started_at, topic_id)
    SELECT NULL, item_id, correct, started_at, topic_id FROM attempt WHERE id %% 211 = 0
    RETURNING 1
), no_item AS (
    INSERT INTO attempt (student_id, item_id, correct, started_at, topic_id)
    SELECT student_id, NULL, correct, started_at, topic_id FROM attempt WHERE id %% 223 = 0
    RETURNING 1
), no_time AS (
    INSERT INTO attempt (student_id, item_id, correct, started_at, topic_id)
    SELECT student_id, item_id, correct, NULL, topic_id FROM attempt WHERE id %% 227 = 0
    RETURNING 1
), future AS (
    INSERT INTO attempt (student_id, item_id, correct, response_time_ms, hint_used, started_at, completed_at,
        session_id, topic_id)
    SELECT student_id, item_id, correct, response_time_ms, hint_used, %(end)s + (1 + id %% 400) * interval '1 day',
        %(end)s + (1 + id %% 400) * interval '1 day', session_id, topic_id
    FROM attempt WHERE id %% 229 = 0
    RETURNING 1
), duplicate AS (
    INSERT INTO attempt (student_id, item_id, correct, response_time_ms, hint_used, started_at, completed_at,
        session_id, topic_id)
    SELECT student_id, item_id, correct, response_time_ms, hint_used, started_at, completed_at, session_id, topic_id
    FROM attempt WHERE id %% 97 = 0
    RETURNING 1
), negative AS (
    UPDATE attempt SET response_time_ms = -response_time_ms, completed_at = started_at - interval '5 seconds'
    WHERE id %% 101 = 0 AND id %% 97 <> 0 AND response_time_ms IS NOT NULL
    RETURNING 1
), tenfold AS (
    UPDATE attempt
    SET response_time_ms = 10 * response_time_ms, completed_at = started_at + 10 * (completed_at - started_at)
    WHERE id %% 103 = 0 AND id %% 97 <> 0 AND id %% 101 <> 0 AND response_time_ms IS NOT NULL
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM no_student) AS no_student,
    (SELECT count(*) FROM no_item) AS no_item,
    (SELECT count(*) FROM no_time) AS no_time,
    (SELECT count(*) FROM future) AS future,
    (SELECT count(*) FROM duplicate) AS duplicate,
    (SELECT count(*) FROM negative) AS negative,
    (SELECT count(*) FROM tenfold) AS tenfold
