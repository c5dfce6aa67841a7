-- One row: one answer or unscored visit (correct is null) of a learner, as the stages may use it:
-- known learner, item and time, begun before the moment the run speaks of, no negative durations, and an event that
-- was delivered twice (same learner, time and item) once. The key's order is that of the index on (student_id,
-- started_at) and of whatever follows a learner through time, so that one sort serves both.
CREATE TEMPORARY VIEW {view} AS
SELECT DISTINCT ON (student_id, started_at, item_id)
    student_id::text AS user_id,
    item_id::text AS item_id,
    topic_id::text AS topic_id,
    session_id::text AS session_id,
    correct,
    CASE WHEN response_time_ms >= 0 THEN response_time_ms END AS response_time_ms,
    hint_used,
    started_at,
    CASE WHEN completed_at >= started_at THEN completed_at END AS completed_at
FROM attempt
WHERE student_id IS NOT NULL AND item_id IS NOT NULL AND started_at < {as_of}
ORDER BY student_id, started_at, item_id, id
