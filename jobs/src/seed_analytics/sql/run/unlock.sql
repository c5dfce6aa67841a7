-- Gives back the locks of this session (run/lock.sql).
SELECT pg_advisory_unlock_all()
