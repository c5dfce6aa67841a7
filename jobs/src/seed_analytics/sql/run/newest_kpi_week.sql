-- The newest week that weekly_kpi holds, and the newest that it ought to hold: the last complete week.
SELECT max(week_start) AS newest, (date_trunc('week', %(as_of)s::timestamptz) - interval '7 days')::date AS wanted
FROM weekly_kpi
WHERE week_start < %(as_of)s::timestamptz
