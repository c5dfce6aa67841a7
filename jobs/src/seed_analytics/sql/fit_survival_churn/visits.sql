-- One row a visit (a learner's active day, UTC): the days until the next one, and what was known at the visit.
-- The last complete day is the horizon: today is not over, and who has not come yet may still come.
-- Not materialised: a date that is read from elsewhere would not reach the index, and every run would sort the whole log.
WITH bounds AS NOT MATERIALIZED (
    SELECT date_trunc('day', %(as_of)s::timestamptz)::date - 1 AS last_day
), days AS (
    SELECT user_id, started_at::date AS day, count(*) AS activity,
        count(correct) AS answers, count(*) FILTER (WHERE correct) AS correct
    FROM attempt_log, bounds
    WHERE started_at < last_day + 1
        -- 56 days of warm-up, so that the first visits of the look-back know their past
        AND started_at >= last_day + 1 - make_interval(days => %(lookback_days)s + 56)
    GROUP BY user_id, started_at::date
), visits AS (
    SELECT user_id, day, activity,
        lead(day) OVER visits - day AS next_gap,
        day - lag(day) OVER visits AS previous_gap,
        count(*) OVER recent AS visits_28d,
        sum(answers) OVER recent AS answers_28d,
        sum(correct) OVER recent AS correct_28d
    FROM days
    WINDOW visits AS (PARTITION BY user_id ORDER BY day),
        recent AS (PARTITION BY user_id ORDER BY day RANGE BETWEEN interval '27 days' PRECEDING AND CURRENT ROW)
)
SELECT user_id,
    day - date '1970-01-01' AS day,
    coalesce(next_gap, last_day - day) AS gap_days,
    next_gap IS NOT NULL AS event,
    next_gap IS NULL AS is_last,
    -- no visit in the warm-up counts as 56 days away, and so does a longer gap, which only late visits can know
    ln(least(previous_gap, 56))::float AS log_previous_gap,
    -- not its logarithm, which tells the rare visitors far apart, whose few visits are mostly chance
    visits_28d / 4.0::float AS visits_per_week,
    ln(activity)::float AS log_activity,
    -- half right where nothing was answered (rule of succession)
    ((correct_28d + 1.0) / (answers_28d + 2.0))::float AS accuracy_28d,
    last_day - date '1970-01-01' AS last_day
FROM visits, bounds
WHERE day > last_day - %(lookback_days)s
ORDER BY user_id, day
