-- The eight queries of the operators' guide, as they stand there. Each begins with a line `-- name: NAME`.

-- name: cluster_fit_meta
SELECT run_id, n_clusters, features, metrics, fitted_at FROM cluster_fit_meta ORDER BY fitted_at DESC LIMIT 1;

-- name: user_segments
SELECT segment_label, COUNT(*) AS user_count, AVG((features->>'engagement')::float) AS avg_engagement FROM user_segments WHERE updated_at >= NOW() - INTERVAL '1 day' GROUP BY segment_label;

-- name: survival_fit_meta
SELECT run_id, formula, coefficients, hazard_ratios, fitted_at FROM survival_fit_meta ORDER BY fitted_at DESC LIMIT 1;

-- name: weekly_kpi_S
SELECT COUNT(*) AS users_with_survival_score, AVG((kpis->>'S')::float) AS avg_survival_prob FROM weekly_kpi WHERE kpis ? 'S' AND week_start >= NOW() - INTERVAL '1 week';

-- name: prophet_fit_meta
SELECT run_id, metric, changepoints, forecast, fitted_at FROM prophet_fit_meta ORDER BY fitted_at DESC LIMIT 1;

-- name: anomalies
SELECT COUNT(*) AS anomaly_count, metric FROM anomalies WHERE detected_at >= NOW() - INTERVAL '1 week' GROUP BY metric;

-- name: brms_fit_meta
SELECT run_id, formula, priors, posterior_summary, diagnostics, fitted_at FROM brms_fit_meta ORDER BY fitted_at DESC LIMIT 1;

-- name: weekly_kpi_P
SELECT COUNT(*) AS users_with_probability, AVG((kpis->>'P')::float) AS avg_goal_probability, AVG((kpis->>'sigma')::float) AS avg_uncertainty FROM weekly_kpi WHERE kpis ? 'P' AND week_start >= NOW() - INTERVAL '1 week';
