-- One row a bin of risk (0 to 1 in steps of 0.05): learners who may still come back in time. Those who have been away
-- for too long already have a risk of 1 by definition and are counted apart, in bin 0.
SELECT CASE WHEN risk < 1 THEN width_bucket(risk, 0, 1, 20) ELSE 0 END AS bin, count(*) AS learners,
    sum(risk) AS expected
FROM survival_risk
GROUP BY 1
ORDER BY 1
