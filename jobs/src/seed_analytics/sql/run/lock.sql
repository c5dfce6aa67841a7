-- True when this session now holds the stage's lock; PostgreSQL gives it back when the session ends, however it ends.
SELECT pg_try_advisory_lock(hashtextextended('seed-analytics/' || %(stage)s::text, 0))
