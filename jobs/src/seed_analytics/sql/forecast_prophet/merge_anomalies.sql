-- One row a week that is not as expected by the newest fit. A week that looks usual by now is withdrawn;
-- one that was known keeps the time at which it was first noticed. `score` is null in rows that only name a week read.
WITH withdrawn AS (
    DELETE FROM anomalies AS a
    USING incoming AS i
    WHERE a.metric = i.metric AND a.week_start = i.week_start AND i.score IS NULL
)
INSERT INTO anomalies (metric, week_start, run_id, value, expected, lower, upper, score)
SELECT metric, week_start, run_id, value, expected, lower, upper, score
FROM incoming
WHERE score IS NOT NULL
ON CONFLICT (metric, week_start) DO UPDATE
SET run_id = excluded.run_id, value = excluded.value, expected = excluded.expected, lower = excluded.lower,
    upper = excluded.upper, score = excluded.score
