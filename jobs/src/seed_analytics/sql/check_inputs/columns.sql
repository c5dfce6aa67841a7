-- One row: a column of one of the tables, found as the stages would find it: along the search path.
SELECT wanted.name AS table, attribute.attname AS column, type.typname AS type
FROM unnest(%(tables)s::text[]) AS wanted (name)
JOIN pg_attribute AS attribute ON attribute.attrelid = to_regclass(wanted.name)
JOIN pg_type AS type ON type.oid = attribute.atttypid
WHERE attribute.attnum > 0 AND NOT attribute.attisdropped
