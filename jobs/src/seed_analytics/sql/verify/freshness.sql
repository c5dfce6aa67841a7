-- One row a stage that is asked for: its newest run, and the age in hours of its numbers. They are as old as the newest run
-- that succeeded, however often it was skipped for too little data since; a stage that has none yet is well while it is skipped.
SELECT stage, last.status, last.reason, last.run_id, extract(epoch FROM now() - good.finished_at) / 3600 AS age_hours
FROM unnest(%(stages)s::text[]) WITH ORDINALITY AS wanted (stage, place)
LEFT JOIN LATERAL (
    SELECT r.status, r.reason, r.run_id FROM analytics_runs AS r
    WHERE r.stage = wanted.stage ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT r.finished_at FROM analytics_runs AS r
    WHERE r.stage = wanted.stage AND r.status IN ('succeeded', 'skipped')
    ORDER BY r.status = 'succeeded' DESC, r.started_at DESC, r.run_id DESC LIMIT 1
) AS good ON true
ORDER BY place
