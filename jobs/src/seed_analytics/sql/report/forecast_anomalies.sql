-- One row a metric and week that was not as expected, the newest first.
SELECT metric, week_start, value, expected, lower, upper, score, detected_at
FROM anomalies
ORDER BY week_start DESC, metric
LIMIT %(most)s
