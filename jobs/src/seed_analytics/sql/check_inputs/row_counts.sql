SELECT
    (SELECT count(*) FROM weekly_kpi) AS weekly_kpi,
    (SELECT count(*) FROM features_topic_daily) AS features_topic_daily,
    (SELECT count(*) FROM question) AS question
