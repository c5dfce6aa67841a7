-- One row: what the scores are centred and divided by, so that priors of unit scale suit every score.
SELECT count(*) AS rows, count(DISTINCT user_id) AS users, count(DISTINCT week) AS weeks,
    avg(score) AS center, stddev_samp(score) AS scale
FROM scores
