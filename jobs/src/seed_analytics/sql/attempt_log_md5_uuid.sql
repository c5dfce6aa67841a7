-- attempt_log where attempt.student_id is md5(user_id)::uuid, or the user id itself where that is a uuid already.
-- The user ids are those of the platform's other tables: an md5 cannot be turned back, so learners who are in neither
-- are left out (check-inputs reports their share).
CREATE TEMPORARY VIEW attempt_log AS
SELECT ids.user_id, log.item_id, log.topic_id, log.session_id, log.correct, log.response_time_ms, log.hint_used,
    log.started_at, log.completed_at
FROM attempt_log_by_student AS log
JOIN attempt_log_ids AS ids ON ids.student_id = log.user_id
