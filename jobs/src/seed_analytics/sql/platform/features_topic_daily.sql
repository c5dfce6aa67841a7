-- One row: a learner's scored answers on one topic on one UTC day, from the clean log.
INSERT INTO features_topic_daily (user_id, topic_id, date, attempts, correct, rt_median, hints)
SELECT
    user_id,
    topic_id,
    (started_at AT TIME ZONE 'UTC')::date,
    count(*),
    count(*) FILTER (WHERE correct),
    percentile_disc(0.5) WITHIN GROUP (ORDER BY response_time_ms),
    count(*) FILTER (WHERE hint_used)
FROM attempt_log
WHERE correct IS NOT NULL AND topic_id IS NOT NULL
GROUP BY 1, 2, 3
