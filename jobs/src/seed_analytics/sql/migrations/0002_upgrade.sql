ALTER TABLE analytics_runs
    ADD COLUMN kpi_keys jsonb NOT NULL DEFAULT '{}' -- key of weekly_kpi.kpis -> learners that the run wrote it to
