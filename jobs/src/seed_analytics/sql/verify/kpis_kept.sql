-- One row a key that the newest succeeded run of its stage wrote into weekly_kpi.kpis: to how many learners, how many of
-- them still have it where it was written, and how many values are out of range. A platform job that replaces the whole
-- of kpis erases them. Learners whose rows are all older than the run's look-back hold an earlier run's key: they do not
-- count.
WITH newest AS (
    SELECT DISTINCT ON (stage) run_id, as_of, kpi_keys,
        as_of - make_interval(days => 7 + coalesce(
            (settings ->> 'SURVIVAL_LOOKBACK_DAYS')::int, 7 * (settings ->> 'BRMS_LOOKBACK_WEEKS')::int, 7 * 520
        )) AS since
    FROM analytics_runs
    WHERE status = 'succeeded' AND stage = ANY(%(stages)s)
    ORDER BY stage, started_at DESC, run_id DESC
), holders AS (
    SELECT DISTINCT ON (run_id, user_id) run_id, kpis
    FROM newest
    JOIN weekly_kpi ON week_start < as_of AND week_start >= since
    WHERE kpi_keys <> '{}'
    ORDER BY run_id, user_id, week_start DESC
)
SELECT key, written::bigint AS written, count(kpis -> key) AS kept,
    count(*) FILTER (
        WHERE jsonb_typeof(kpis -> key) <> 'number'
        OR CASE WHEN jsonb_typeof(kpis -> key) = 'number' THEN
            (kpis ->> key)::numeric < 0 OR (key <> 'sigma' AND (kpis ->> key)::numeric > 1)
        END
    ) AS out_of_range
FROM newest
CROSS JOIN jsonb_each_text(kpi_keys) AS each (key, written)
LEFT JOIN holders USING (run_id)
GROUP BY key, written
ORDER BY key
