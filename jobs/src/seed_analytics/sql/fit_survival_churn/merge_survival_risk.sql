-- The table holds the newest run only: learners without a visit in the look-back leave it.
WITH gone AS (
    DELETE FROM survival_risk AS r
    WHERE NOT EXISTS (SELECT FROM incoming AS i WHERE i.user_id = r.user_id)
)
INSERT INTO survival_risk (user_id, risk, rank_percentile, days_away, run_id, updated_at)
SELECT user_id, risk, percent_rank() OVER (ORDER BY risk), days_away, run_id, now()
FROM incoming
ON CONFLICT (user_id) DO UPDATE
SET risk = excluded.risk, rank_percentile = excluded.rank_percentile, days_away = excluded.days_away,
    run_id = excluded.run_id, updated_at = excluded.updated_at
