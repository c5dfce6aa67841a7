-- One row a metric and complete week of the look-back: the mean over learners, whose order settles its last digit.
-- A week without rows is null: a gap.
SELECT metric, week::date AS week_start, value, learners
FROM unnest(%(metrics)s::text[]) WITH ORDINALITY AS metrics (metric, place)
CROSS JOIN generate_series(
    date_trunc('week', %(as_of)s::timestamptz) - make_interval(weeks => %(lookback_weeks)s),
    date_trunc('week', %(as_of)s::timestamptz) - interval '1 week',
    interval '1 week'
) AS week
LEFT JOIN LATERAL (
    SELECT avg((kpis ->> metric)::float ORDER BY user_id) AS value, count(*) AS learners
    FROM weekly_kpi
    WHERE week_start = week::date AND jsonb_typeof(kpis -> metric) = 'number'
) AS mean ON true
ORDER BY place, week
