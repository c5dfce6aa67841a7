SELECT DISTINCT stage FROM analytics_runs WHERE status = 'succeeded'
