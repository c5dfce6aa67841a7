-- One row a learner: the mean of each KPI over the complete weeks of the look-back (null where it never was a number).
-- In the order of weeks: the last digit of a sum depends on it, and what is published must not depend on where rows lie.
SELECT user_id,
    avg((kpis ->> 'I_t')::float) FILTER (WHERE jsonb_typeof(kpis -> 'I_t') = 'number') AS "I_t",
    avg((kpis ->> 'E_t')::float) FILTER (WHERE jsonb_typeof(kpis -> 'E_t') = 'number') AS "E_t",
    avg((kpis ->> 'R_t')::float) FILTER (WHERE jsonb_typeof(kpis -> 'R_t') = 'number') AS "R_t",
    avg((kpis ->> 'A_t')::float) FILTER (WHERE jsonb_typeof(kpis -> 'A_t') = 'number') AS "A_t",
    avg((kpis ->> 'sessions')::float) FILTER (WHERE jsonb_typeof(kpis -> 'sessions') = 'number') AS sessions,
    avg((kpis ->> 'mean_gap')::float) FILTER (WHERE jsonb_typeof(kpis -> 'mean_gap') = 'number') AS mean_gap,
    avg((kpis ->> 'accuracy')::float) FILTER (WHERE jsonb_typeof(kpis -> 'accuracy') = 'number') AS accuracy,
    avg((kpis ->> 'attempts')::float) FILTER (WHERE jsonb_typeof(kpis -> 'attempts') = 'number') AS attempts
FROM (
    SELECT user_id, kpis
    FROM weekly_kpi
    WHERE week_start >= date_trunc('week', %(as_of)s::timestamptz) - make_interval(weeks => %(lookback_weeks)s)
        AND week_start < date_trunc('week', %(as_of)s::timestamptz)
    ORDER BY user_id, week_start
) AS weeks
GROUP BY user_id
HAVING count(*) FILTER (WHERE kpis ?| ARRAY['I_t', 'E_t', 'R_t', 'A_t', 'accuracy', 'sessions']) > 0
ORDER BY user_id
