-- Whether weekly_kpi has the unique key that merging needs.
SELECT EXISTS (
    SELECT FROM pg_index AS key
    WHERE key.indrelid = to_regclass('weekly_kpi') AND key.indisunique AND key.indpred IS NULL
        AND (
            SELECT array_agg(attribute.attname::text ORDER BY attribute.attname)
            FROM pg_attribute AS attribute
            WHERE attribute.attrelid = key.indrelid AND attribute.attnum = ANY (key.indkey)
        ) = ARRAY['user_id', 'week_start']
)
