-- One row a run of a stage, whatever became of it.
CREATE TABLE analytics_runs (
    run_id text PRIMARY KEY,
    stage text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'skipped', 'rejected', 'failed')),
    reason text,
    as_of timestamptz NOT NULL,
    rows_read bigint NOT NULL DEFAULT 0,
    rows_written bigint NOT NULL DEFAULT 0,
    timings jsonb NOT NULL DEFAULT '{}',  -- step -> seconds
    versions jsonb NOT NULL DEFAULT '{}', -- program -> version
    settings jsonb NOT NULL DEFAULT '{}', -- field -> value, without secrets
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX analytics_runs_by_stage ON analytics_runs (stage, started_at DESC);

-- calibrate-irt-weekly: one row a run; theta is N(0, 1) over the calibrated learners unless linking moved it.
CREATE TABLE irt_fit_meta (
    run_id text PRIMARY KEY,
    model text NOT NULL,
    n_users integer NOT NULL,
    n_items integer NOT NULL,
    n_responses bigint NOT NULL,
    log_likelihood double precision NOT NULL,
    metrics jsonb NOT NULL,
    linking jsonb,
    fitted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX irt_fit_meta_by_time ON irt_fit_meta (fitted_at DESC);

-- One row an item a run, also for items that were not fitted (status `excluded`, with the reason).
CREATE TABLE irt_item_params (
    run_id text NOT NULL REFERENCES irt_fit_meta ON DELETE CASCADE,
    item_id text NOT NULL,
    a double precision,
    b double precision,
    se_a double precision,
    se_b double precision,
    n_responses bigint NOT NULL,
    p_correct double precision,
    infit double precision,
    outfit double precision,
    status text NOT NULL CHECK (status IN ('fitted', 'anchor', 'excluded')),
    reason text,
    PRIMARY KEY (run_id, item_id),
    CHECK ((status = 'excluded') = (a IS NULL))
);

-- One row a learner a run.
CREATE TABLE irt_abilities (
    run_id text NOT NULL REFERENCES irt_fit_meta ON DELETE CASCADE,
    user_id text NOT NULL,
    theta double precision NOT NULL,
    se double precision NOT NULL,
    n_responses bigint NOT NULL,
    PRIMARY KEY (run_id, user_id)
);

-- cluster-segments: one row a run.
CREATE TABLE cluster_fit_meta (
    run_id text PRIMARY KEY,
    n_clusters integer NOT NULL,
    method text NOT NULL,
    features jsonb NOT NULL, -- names, in order
    metrics jsonb NOT NULL,
    centers jsonb NOT NULL,  -- [{cluster_id, label, size, center: {feature: value in its own unit}}]
    fitted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cluster_fit_meta_by_time ON cluster_fit_meta (fitted_at DESC);

-- One row a learner: the segment of the newest run.
CREATE TABLE user_segments (
    user_id text PRIMARY KEY,
    segment_label text NOT NULL,
    cluster_id integer NOT NULL,
    features jsonb NOT NULL, -- feature -> value in its own unit
    run_id text NOT NULL REFERENCES cluster_fit_meta,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- fit-survival-churn: one row a run.
CREATE TABLE survival_fit_meta (
    run_id text PRIMARY KEY,
    formula text NOT NULL,
    coefficients jsonb NOT NULL,  -- term -> {estimate, se, robust_se, z, p, lower, upper}
    hazard_ratios jsonb NOT NULL, -- term -> {hazard_ratio, lower, upper}
    metrics jsonb NOT NULL,
    survival_curve jsonb NOT NULL, -- columns day, survival, lower, upper
    fitted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX survival_fit_meta_by_time ON survival_fit_meta (fitted_at DESC);

-- One row a learner who visited in the look-back: the chance of not coming back in time, of the newest run.
CREATE TABLE survival_risk (
    user_id text PRIMARY KEY,
    risk double precision NOT NULL CHECK (risk BETWEEN 0 AND 1),
    rank_percentile double precision NOT NULL CHECK (rank_percentile BETWEEN 0 AND 1),
    days_away integer NOT NULL,
    run_id text NOT NULL REFERENCES survival_fit_meta,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX survival_risk_by_risk ON survival_risk (risk DESC);

-- forecast-prophet: one row a run a metric.
CREATE TABLE prophet_fit_meta (
    run_id text NOT NULL,
    metric text NOT NULL,
    changepoints jsonb NOT NULL, -- columns week_start, delta
    forecast jsonb NOT NULL,     -- columns week_start, yhat, lower, upper
    history jsonb NOT NULL,      -- columns week_start, value, expected, lower, upper, score, anomaly
    metrics jsonb NOT NULL,
    fitted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, metric)
);
CREATE INDEX prophet_fit_meta_by_time ON prophet_fit_meta (fitted_at DESC);

-- One row a week and metric that was not as expected; detected_at is when it was first noticed.
CREATE TABLE anomalies (
    metric text NOT NULL,
    week_start date NOT NULL,
    run_id text NOT NULL,
    value double precision NOT NULL,
    expected double precision NOT NULL,
    lower double precision NOT NULL,
    upper double precision NOT NULL,
    score double precision NOT NULL,
    detected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (metric, week_start)
);
CREATE INDEX anomalies_by_time ON anomalies (detected_at DESC);

-- fit-bayesian-growth: one row a run.
CREATE TABLE brms_fit_meta (
    run_id text PRIMARY KEY,
    engine text NOT NULL,
    formula text NOT NULL,
    priors jsonb NOT NULL,            -- parameter -> prior, on the scaled data
    posterior_summary jsonb NOT NULL, -- parameter -> {mean, sd, q5, q50, q95, rhat, ess_bulk, ess_tail}
    diagnostics jsonb NOT NULL,
    examples jsonb NOT NULL,          -- a few learners: their scores, and the band expected of them
    fitted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX brms_fit_meta_by_time ON brms_fit_meta (fitted_at DESC);
