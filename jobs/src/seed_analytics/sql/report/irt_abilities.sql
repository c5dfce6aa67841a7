-- One row a bin of ability (-4 to 4 in steps of 0.25; those beyond are in the outermost bins): the learners in it.
SELECT least(greatest(width_bucket(theta, -4, 4, 32), 1), 32) AS bin, count(*) AS learners
FROM irt_abilities
WHERE run_id = %(run_id)s
GROUP BY 1
ORDER BY 1
