-- One row a learner with a visit in the 56 days before the week's moment T: the KPIs as of T (docs/kpis.md).
-- Windows come as timestamps, so that no session time zone stretches a day: %(since_14)s is T - 14 days, and so on.
-- "recent" is the 28 days before T, "earlier" the 28 days before those.
WITH log AS (
    SELECT
        user_id, item_id, correct, response_time_ms, hint_used, started_at,
        started_at >= %(since_28)s AS recent,
        -- where the platform notes no session, a UTC day is one
        coalesce(session_id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')) AS session_id,
        -- numeric, whose sums do not depend on the order of the rows
        coalesce(extract(epoch FROM completed_at - started_at), response_time_ms / 1000.0) AS seconds
    FROM attempt_log
    WHERE started_at >= %(since_56)s AND started_at < %(t)s
), answers AS (
    SELECT
        user_id,
        count(correct) FILTER (WHERE started_at >= %(since_14)s) AS n,
        avg(correct::int) FILTER (WHERE started_at >= %(since_14)s)::float AS p,
        avg(correct::int) FILTER (WHERE recent AND started_at < %(since_14)s)::float AS p_before,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY response_time_ms) FILTER (WHERE correct AND recent) AS ms,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY response_time_ms) FILTER (WHERE correct AND NOT recent) AS ms_before,
        count(correct) FILTER (WHERE started_at >= %(week)s) AS attempts,
        avg(correct::int) FILTER (WHERE started_at >= %(week)s)::float AS accuracy
    FROM log
    GROUP BY user_id
), retried AS (
    -- items answered wrong earlier and answered again since: is the last answer right?
    SELECT
        user_id,
        bool_or(NOT correct) FILTER (WHERE NOT recent) AS was_wrong,
        (array_agg(correct ORDER BY started_at DESC) FILTER (WHERE recent))[1] AS now_right
    FROM log
    WHERE correct IS NOT NULL
    GROUP BY user_id, item_id
), recovery AS (
    SELECT user_id, avg(now_right::int)::float AS share
    FROM retried
    WHERE was_wrong AND now_right IS NOT NULL
    GROUP BY user_id
), sessions AS (
    SELECT
        user_id,
        min(started_at) AS began,
        bool_or(recent) AS recent,
        sum(seconds) FILTER (WHERE recent) AS seconds,
        count(*) FILTER (WHERE recent AND hint_used) AS hints
    FROM log
    GROUP BY user_id, session_id
), visits AS (
    SELECT
        user_id,
        count(*) FILTER (WHERE recent) AS sessions,
        (extract(epoch FROM max(began) - min(began)) / 86400)::float / nullif(count(*) - 1, 0) AS mean_gap,
        avg(hints) FILTER (WHERE recent)::float AS hints,
        avg(seconds) FILTER (WHERE recent)::float AS dwell
    FROM sessions
    GROUP BY user_id
)
INSERT INTO weekly_kpi (user_id, week_start, kpis, created_at, updated_at)
SELECT
    user_id,
    %(week_start)s,
    jsonb_strip_nulls(jsonb_build_object(
        'I_t', (p - p_before) * least(1, n / 30.0) * (1 - least(0.5, 1.96 * sqrt(p * (1 - p) / nullif(n, 0)))),
        -- greatest() and least() pass over nulls, hence the conditions
        'E_t', CASE WHEN ms IS NOT NULL AND ms_before > 0 THEN greatest(0, (ms_before - ms) / ms_before) END,
        'R_t', recovery.share,
        'A_t', CASE WHEN sessions = 0 THEN 0 ELSE
            0.35 * least(1, sessions / 28.0)
            + 0.25 * CASE WHEN mean_gap IS NULL THEN 0 ELSE 1 / greatest(1, mean_gap) END
            + 0.2 * (1 - least(1, hints / 3))
            + 0.2 * least(1, coalesce(dwell, 0) / 900)
        END,
        'sessions', sessions,
        'mean_gap', mean_gap,
        'accuracy', accuracy,
        'attempts', attempts
    )),
    now(),
    now()
FROM answers
JOIN visits USING (user_id)
LEFT JOIN recovery USING (user_id)
ON CONFLICT (user_id, week_start) DO UPDATE
-- Our own keys go first, since one that exists no more must not linger; S, P, sigma and the platform's keys stay.
SET kpis = (coalesce(weekly_kpi.kpis, '{}') - %(keys)s::text[]) || EXCLUDED.kpis, updated_at = EXCLUDED.updated_at
