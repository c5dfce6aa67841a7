ALTER TABLE analytics_runs DROP COLUMN kpi_keys
