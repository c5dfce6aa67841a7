-- One row an example learner: the newest P.
SELECT DISTINCT ON (user_id) user_id, (kpis ->> 'P')::float AS p
FROM weekly_kpi
WHERE user_id = ANY(%(users)s) AND jsonb_typeof(kpis -> 'P') = 'number'
ORDER BY user_id, week_start DESC
