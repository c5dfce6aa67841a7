-- One row a table that the report wants and that is there.
SELECT name FROM unnest(%(tables)s::text[]) AS wanted (name) WHERE to_regclass(quote_ident(name)) IS NOT NULL
