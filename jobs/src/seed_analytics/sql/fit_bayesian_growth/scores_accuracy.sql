-- One row a learner and complete week: the share right. Fewer than three answers say too little of a week.
SELECT user_id,
    (date_trunc('week', started_at)::date - first_week) / 7 AS week,
    avg(correct::int)::float AS score
FROM attempt_log
CROSS JOIN (
    SELECT (date_trunc('week', %(as_of)s::timestamptz) - make_interval(weeks => %(lookback_weeks)s))::date AS first_week
) AS bounds
WHERE correct IS NOT NULL
    AND started_at >= first_week
    AND started_at < date_trunc('week', %(as_of)s::timestamptz)
GROUP BY user_id, 2
HAVING count(*) >= 3
