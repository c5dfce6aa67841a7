-- One row a stage that is asked for, in that order: its newest run, the newest that published, and how old its numbers
-- are: as old as that one, however often it was skipped since; a stage without numbers is well while it is skipped.
SELECT wanted.stage,
    last.run_id, last.status, last.reason, last.as_of, last.rows_read, last.rows_written, last.timings, last.versions,
    last.settings, last.started_at, last.finished_at,
    published.run_id AS published_run_id, published.finished_at AS published_at, published.as_of AS published_as_of,
    coalesce(
        published.finished_at,
        (SELECT max(r.finished_at) FROM analytics_runs AS r WHERE r.stage = wanted.stage AND r.status = 'skipped')
    ) AS well_at
FROM unnest(%(stages)s::text[]) WITH ORDINALITY AS wanted (stage, place)
LEFT JOIN LATERAL (
    SELECT r.* FROM analytics_runs AS r
    WHERE r.stage = wanted.stage ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT r.run_id, r.finished_at, r.as_of FROM analytics_runs AS r
    WHERE r.stage = wanted.stage AND r.status = 'succeeded' ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
) AS published ON true
ORDER BY place
