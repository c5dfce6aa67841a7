INSERT INTO analytics_runs (run_id, stage, status, as_of, settings)
VALUES (%(run_id)s, %(stage)s, 'running', %(as_of)s, %(settings)s)
ON CONFLICT (run_id) DO NOTHING
