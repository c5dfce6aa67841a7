-- One row a stage that is asked for: its newest run, its newest good run, and that one's age in hours.
SELECT stage, last.status, last.reason, last.run_id, last.started_at, good.run_id AS good_run_id, good.finished_at AS good_at,
    extract(epoch FROM now() - good.finished_at) / 3600 AS age_hours
FROM unnest(%(stages)s::text[]) WITH ORDINALITY AS wanted (stage, place)
LEFT JOIN LATERAL (
    SELECT r.status, r.reason, r.run_id, r.started_at FROM analytics_runs AS r
    WHERE r.stage = wanted.stage ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT r.run_id, r.finished_at FROM analytics_runs AS r
    WHERE r.stage = wanted.stage AND r.status IN ('succeeded', 'skipped') ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
) AS good ON true
ORDER BY place
