-- How many learners of the log's last 56 days the platform's other tables know, by either form of the id.
-- attempt_log_ids is what attempt_log_ids.sql selects: user_id, and student_id as md5-uuid makes it of it.
SELECT
    count(*) AS students,
    count(by_id.user_id) AS same,
    count(by_md5.student_id) AS "md5-uuid",
    (SELECT count(*) FROM attempt_log_ids) AS known,
    EXISTS (SELECT FROM features_topic_daily) AS features
FROM (
    SELECT DISTINCT student_id::text AS student_id
    FROM attempt
    WHERE started_at >= %(as_of)s - interval '1344 hours' AND started_at < %(as_of)s AND student_id IS NOT NULL
) AS students
LEFT JOIN (SELECT DISTINCT user_id FROM attempt_log_ids) AS by_id ON by_id.user_id = students.student_id
LEFT JOIN attempt_log_ids AS by_md5 ON by_md5.student_id = students.student_id
