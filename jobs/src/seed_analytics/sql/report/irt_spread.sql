-- One row: the spread of the abilities.
SELECT avg(theta) AS mean, stddev_samp(theta) AS sd
FROM irt_abilities
WHERE run_id = %(run_id)s
