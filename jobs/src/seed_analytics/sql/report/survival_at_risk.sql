-- One row a learner who may still come back in time: the most endangered, the highest risk first.
SELECT r.user_id, r.risk, r.days_away, s.segment_label
FROM survival_risk AS r LEFT JOIN user_segments AS s USING (user_id)
WHERE r.risk < 1
ORDER BY r.risk DESC, r.user_id
LIMIT %(most)s
