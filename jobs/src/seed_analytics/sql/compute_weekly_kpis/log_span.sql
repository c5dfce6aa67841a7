-- How much log there is in the 56 days before the moment the run speaks of.
SELECT count(*) AS rows, count(DISTINCT user_id) AS users
FROM attempt_log
WHERE started_at >= %(as_of)s - interval '1344 hours'
