-- What the log holds, in one scan; repeats are looked for in the last 56 days, which is as far as the KPIs look back.
WITH recent AS (
    SELECT DISTINCT student_id, started_at, item_id
    FROM attempt
    WHERE started_at >= %(as_of)s - interval '1344 hours' AND started_at < %(as_of)s
        AND student_id IS NOT NULL AND item_id IS NOT NULL
)
SELECT
    count(*) AS rows,
    count(*) FILTER (WHERE student_id IS NULL OR item_id IS NULL OR started_at IS NULL) AS incomplete,
    count(*) FILTER (WHERE correct IS NULL) AS unscored,
    count(*) FILTER (WHERE started_at >= %(as_of)s) AS future,
    count(*) FILTER (WHERE response_time_ms < 0 OR completed_at < started_at) AS negative,
    count(*) FILTER (
        WHERE started_at >= %(as_of)s - interval '1344 hours' AND started_at < %(as_of)s
            AND student_id IS NOT NULL AND item_id IS NOT NULL
    ) AS recent,
    (SELECT count(*) FROM recent) AS recent_distinct
FROM attempt
