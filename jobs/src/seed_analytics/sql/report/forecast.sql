-- One row a metric of the newest run that forecast any, and what its gate said.
SELECT m.*, r.reason AS verdict, r.settings
FROM prophet_fit_meta AS m LEFT JOIN analytics_runs AS r USING (run_id)
WHERE m.run_id = (SELECT run_id FROM prophet_fit_meta ORDER BY fitted_at DESC, run_id DESC LIMIT 1)
ORDER BY m.metric
