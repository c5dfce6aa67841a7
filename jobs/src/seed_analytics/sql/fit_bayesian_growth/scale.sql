-- One row: what the scores are centred and divided by, so that priors of unit scale suit every score.
-- In one order: the last digits of a sum depend on it.
SELECT count(*) AS rows, count(DISTINCT user_id) AS users, count(DISTINCT week) AS weeks,
    avg(score ORDER BY user_id, week) AS center,
    stddev_samp(score ORDER BY user_id, week) AS scale
FROM scores
