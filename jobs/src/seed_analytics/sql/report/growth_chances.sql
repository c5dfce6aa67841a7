-- One row a bin of P (0 to 1 in steps of 0.05), over each learner's newest week that has P: learners, and the mean sigma.
WITH newest AS (
    SELECT DISTINCT ON (user_id) (kpis ->> 'P')::float AS p,
        CASE WHEN jsonb_typeof(kpis -> 'sigma') = 'number' THEN (kpis ->> 'sigma')::float END AS sigma
    FROM weekly_kpi
    WHERE jsonb_typeof(kpis -> 'P') = 'number'
    ORDER BY user_id, week_start DESC
)
SELECT least(width_bucket(p, 0, 1, 20), 20) AS bin, count(*) AS learners, avg(p) AS mean, avg(sigma) AS sigma
FROM newest
WHERE p BETWEEN 0 AND 1
GROUP BY 1
ORDER BY 1
