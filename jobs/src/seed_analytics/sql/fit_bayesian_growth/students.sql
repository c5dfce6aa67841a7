-- One row a learner: the sums that the model needs of x = (week - middle) / span and y = (score - center) / scale.
SELECT user_id, count(*) AS n, sum(x)::float AS sw, sum(x * x)::float AS sww,
    sum(y) AS sy, sum(x * y) AS swy, sum(y * y) AS syy
FROM (
    SELECT user_id, (week - %(middle)s::float) / %(span)s::float AS x,
        (score - %(center)s::float) / %(scale)s::float AS y
    FROM scores
    ORDER BY user_id, week
) AS scaled
GROUP BY user_id
ORDER BY user_id
