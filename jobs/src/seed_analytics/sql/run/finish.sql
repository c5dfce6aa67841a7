UPDATE analytics_runs
SET status = %(status)s, reason = %(reason)s, rows_read = %(rows_read)s, rows_written = %(rows_written)s,
    timings = %(timings)s, versions = %(versions)s, kpi_keys = %(kpi_keys)s, finished_at = clock_timestamp()
WHERE run_id = %(run_id)s AND status = 'running' -- what is published stays succeeded, whatever happens next
