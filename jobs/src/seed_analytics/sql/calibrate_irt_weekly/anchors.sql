-- One row an anchor item: its published parameters, which define the scale that is kept from run to run.
SELECT id::text AS item_id, (meta #>> '{irt,a}')::float AS a, (meta #>> '{irt,b}')::float AS b
FROM question
WHERE meta -> 'tags' ? 'anchor'
    AND jsonb_typeof(meta #> '{irt,a}') = 'number'
    AND jsonb_typeof(meta #> '{irt,b}') = 'number'
    AND (meta #>> '{irt,a}')::float > 0
ORDER BY item_id
