-- Writes a and b into the item's meta and leaves every other key of it, and of irt, as it was.
-- Anchors keep what defines the scale.
UPDATE question AS q
SET meta = coalesce(q.meta, '{}') || jsonb_build_object('irt', coalesce(q.meta -> 'irt', '{}') || i.meta)
FROM incoming AS i
WHERE q.id::text = i.id AND NOT coalesce(q.meta -> 'tags' ? 'anchor', false)
