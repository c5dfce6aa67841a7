-- The centres of the run that speaks of the newest moment before this one's: they lend their labels to the clusters of
-- this one. A run with an earlier --as-of must not learn from what came after it.
SELECT m.centers
FROM cluster_fit_meta AS m LEFT JOIN analytics_runs AS r USING (run_id)
WHERE coalesce(r.as_of, m.fitted_at) < %(as_of)s
ORDER BY coalesce(r.as_of, m.fitted_at) DESC, m.fitted_at DESC LIMIT 1
