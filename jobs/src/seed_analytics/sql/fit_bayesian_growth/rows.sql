-- One row a learner and week, scaled (for the brms engine, which takes rows; and for the report's examples).
SELECT user_id, (week - %(middle)s::float) / %(span)s::float AS week,
    (score - %(center)s::float) / %(scale)s::float AS score
FROM scores
WHERE %(users)s::text[] IS NULL OR user_id = ANY(%(users)s)
ORDER BY user_id, week
