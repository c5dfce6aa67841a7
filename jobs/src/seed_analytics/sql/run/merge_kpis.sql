-- Adds keys to each learner's newest row and keeps all others: the platform's own keys are not ours to lose.
UPDATE weekly_kpi AS k
SET kpis = k.kpis || i.kpis, updated_at = now()
FROM incoming AS i
WHERE k.user_id = i.user_id
    AND k.week_start = (
        SELECT max(newest.week_start) FROM weekly_kpi AS newest
        WHERE newest.user_id = i.user_id AND newest.week_start <= i.week_start
    )
