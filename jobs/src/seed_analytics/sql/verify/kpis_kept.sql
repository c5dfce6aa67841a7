-- Of the learners that the newest survival and growth runs wrote to: how many still have S, P and sigma on their
-- newest row. A platform job that replaces the whole of kpis would erase them.
WITH newest AS (
    SELECT DISTINCT ON (user_id) user_id, kpis FROM weekly_kpi WHERE week_start <= now()
    ORDER BY user_id, week_start DESC
)
SELECT count(*) AS users,
    count(*) FILTER (WHERE kpis ? 'S') AS with_s,
    count(*) FILTER (WHERE kpis ? 'P') AS with_p,
    count(*) FILTER (WHERE kpis ? 'sigma') AS with_sigma,
    count(*) FILTER (WHERE (kpis ->> 'S')::float NOT BETWEEN 0 AND 1 OR (kpis ->> 'P')::float NOT BETWEEN 0 AND 1) AS out_of_range
FROM newest
