-- One row a learner and item: the learner's first answer ever to it, if that fell into the look-back.
-- A second attempt has seen the item before; it tells of memory, not of difficulty.
WITH answers AS (
    SELECT DISTINCT ON (user_id, item_id) user_id, item_id, correct::int AS correct, started_at
    FROM attempt_log
    WHERE correct IS NOT NULL
        AND item_id IS NOT NULL
        AND (%(topic_id)s::text IS NULL OR topic_id = %(topic_id)s)
    ORDER BY user_id, item_id, started_at
), newest AS (
    SELECT *
    FROM answers
    WHERE started_at >= %(as_of)s::timestamptz - make_interval(days => %(lookback_days)s)
    ORDER BY started_at DESC, user_id, item_id
    LIMIT nullif(%(max_obs)s, 0)
)
SELECT user_id, item_id, correct
FROM newest
ORDER BY user_id, item_id
