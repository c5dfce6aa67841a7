-- One row a feature: its mean and standard deviation over the learners, against which a centre is high or low.
SELECT f.key AS feature, avg((f.value #>> '{}')::float) AS mean, stddev_pop((f.value #>> '{}')::float) AS sd
FROM user_segments AS s, jsonb_each(s.features) AS f
WHERE s.run_id = %(run_id)s AND jsonb_typeof(f.value) = 'number'
GROUP BY f.key
ORDER BY f.key
