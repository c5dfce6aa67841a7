-- One row: a user id and the form in which attempt.student_id holds it.
SELECT
    (CASE
        WHEN user_id ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN user_id::uuid
        ELSE md5(user_id)::uuid
    END)::text AS student_id,
    min(user_id) AS user_id
FROM (SELECT user_id FROM weekly_kpi UNION SELECT user_id FROM features_topic_daily) AS known
GROUP BY 1
