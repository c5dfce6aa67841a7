-- One row an anchor item of the topic: its published parameters, which define the scale that is kept from run to run.
SELECT id::text AS item_id, (meta #>> '{irt,a}')::float AS a, (meta #>> '{irt,b}')::float AS b
FROM question
WHERE meta -> 'tags' ? 'anchor'
    AND jsonb_typeof(meta #> '{irt,a}') = 'number'
    AND jsonb_typeof(meta #> '{irt,b}') = 'number'
    AND (meta #>> '{irt,a}')::float > 0
    AND (%(topic_id)s::text IS NULL OR topic_id::text = %(topic_id)s)
ORDER BY item_id
