-- Moves every date by the whole number of weeks that brings the log's last row closest to, and before, the moment; rows
-- that lie after it already (clocks that ran ahead) do not count. Where a date is part of a key, rows are taken out, all
-- of them (hence the order), and put in again: moved in place, one would meet another that has yet to move.
WITH shift AS MATERIALIZED (
    SELECT floor(extract(epoch FROM %(now)s - max(started_at)) / 604800)::int * 7 AS days
    FROM attempt
    WHERE started_at < %(now)s
), log AS (
    UPDATE attempt
    SET started_at = started_at + make_interval(days => days), completed_at = completed_at + make_interval(days => days)
    FROM shift
    WHERE days > 0
), topics AS (
    DELETE FROM features_topic_daily USING shift WHERE days > 0 RETURNING features_topic_daily.*, days
), features AS (
    INSERT INTO features_topic_daily (user_id, topic_id, date, attempts, correct, rt_median, hints)
    SELECT user_id, topic_id, date + days, attempts, correct, rt_median, hints FROM topics ORDER BY date
), weeks AS (
    DELETE FROM weekly_kpi USING shift WHERE days > 0 RETURNING weekly_kpi.*, days
)
INSERT INTO weekly_kpi (user_id, week_start, kpis, created_at, updated_at)
SELECT user_id, week_start + days, kpis, created_at, updated_at FROM weeks ORDER BY week_start
