-- Rows of runs that were killed before they could say how they ended.
UPDATE analytics_runs
SET status = 'failed', reason = 'The process ended without a word (killed or lost its node).', finished_at = now()
WHERE stage = %(stage)s AND status = 'running'
