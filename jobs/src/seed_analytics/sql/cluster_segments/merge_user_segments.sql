-- The table holds the newest run only: learners without KPIs in the look-back leave it.
WITH gone AS (
    DELETE FROM user_segments AS s
    WHERE NOT EXISTS (SELECT FROM incoming AS i WHERE i.user_id = s.user_id)
)
INSERT INTO user_segments (user_id, segment_label, cluster_id, features, run_id, updated_at)
SELECT user_id, segment_label, cluster_id, features, run_id, now()
FROM incoming
ON CONFLICT (user_id) DO UPDATE
SET segment_label = excluded.segment_label, cluster_id = excluded.cluster_id, features = excluded.features,
    run_id = excluded.run_id, updated_at = excluded.updated_at
