-- One row a learner and week: the standing among the week's learners, whatever the unit of the score was that week. It is
-- the normal quantile of (mean rank - 1/2) / learners, to 4.5e-4: Abramowitz & Stegun 1964, formula 26.2.23.
SELECT user_id, week,
    sign(below - 0.5) * (t - (2.515517 + 0.802853 * t + 0.010328 * t * t)
        / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t)) AS score
FROM (
    SELECT user_id, week,
        (rank() OVER (PARTITION BY week ORDER BY score) - 1 + count(*) OVER (PARTITION BY week, score) / 2.0)::float
            / count(*) OVER (PARTITION BY week) AS below
    FROM measured
) AS ranked
CROSS JOIN LATERAL (SELECT sqrt(-2 * ln(least(below, 1 - below))) AS t) AS tail
