DROP TABLE brms_fit_meta, anomalies, prophet_fit_meta, survival_risk, survival_fit_meta, user_segments,
    cluster_fit_meta, irt_abilities, irt_item_params, irt_fit_meta, analytics_runs;
