-- The newest clustering, and what its gate said.
SELECT m.*, r.reason AS verdict, r.settings
FROM cluster_fit_meta AS m LEFT JOIN analytics_runs AS r USING (run_id)
ORDER BY m.fitted_at DESC, m.run_id DESC LIMIT 1
