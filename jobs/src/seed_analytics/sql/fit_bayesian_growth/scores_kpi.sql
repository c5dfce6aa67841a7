-- One row a learner and complete week: one KPI, where it is a number.
SELECT user_id, (week_start - first_week) / 7 AS week, (kpis ->> %(score_source)s)::float AS score
FROM weekly_kpi
CROSS JOIN (
    SELECT (date_trunc('week', %(as_of)s::timestamptz) - make_interval(weeks => %(lookback_weeks)s))::date AS first_week
) AS bounds
WHERE jsonb_typeof(kpis -> %(score_source)s) = 'number'
    AND week_start >= first_week
    AND week_start < date_trunc('week', %(as_of)s::timestamptz)
