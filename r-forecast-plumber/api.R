# Survival of learners' visits (R/survival.R) and forecasts of weekly metrics (R/prophet.R).

estimate <- nullable(number())
share <- number(min = 0, max = 1)

service(
  name = "r-forecast-plumber",
  version = "0.1.0",
  packages = c("survival", "prophet"),
  warm = "warm_forecast",
  routes = list(
    fit_route(
      "/survival/fit", "fit_survival",
      summary = "Cox model of the days between visits, and each user's chance to come back in time",
      request = record(
        visits = columns(
          user_id = string(), day = integer(), gap_days = number(above = 0), event = boolean(),
          .extra = nullable(number()), .min_rows = 1
        ),
        covariates = optional(array_of(string()), character()),
        threshold_days = optional(number(above = 0), 14),
        holdout_days = optional(integer(min = 0), 28L),
        as_of_day = integer(),
        score = optional(columns(
          user_id = string(), days_away = number(min = 0), .extra = nullable(number())
        ))
      ),
      response = record(
        formula = string(), n = integer(), n_events = integer(), n_users = integer(),
        coefficients = columns(
          term = string(), estimate = estimate, se = estimate, robust_se = estimate, z = estimate,
          p = estimate, lower = estimate, upper = estimate
        ),
        hazard_ratios = columns(term = string(), hazard_ratio = estimate, lower = estimate, upper = estimate),
        separated = array_of(string()), # terms without a finite hazard ratio, since one alone decides
        concordance = nullable(share), # null where no two visits can be compared
        log_likelihood = record(null = number(), model = number()),
        ph_test = columns(term = string(), chisq = estimate, df = estimate, p = estimate),
        survival_curve = columns(day = integer(), survival = share, lower = share, upper = share),
        holdout = nullable(record(
          n = integer(), base_rate = share, brier = number(), brier_base_rate = number(),
          brier_gap_only = number(), concordance = estimate, calibration_slope = estimate,
          calibration_intercept = estimate, bins = columns(predicted = share, observed = share, n = integer())
        )),
        scores = columns(user_id = string(), survival = share),
        dropped = columns(term = string(), reason = string())
      )
    ),
    fit_route(
      "/prophet/fit", "fit_prophet",
      summary = "Forecast of a weekly metric, and the weeks that were not as expected",
      request = record(
        metric = string(),
        weeks = columns(week_start = date(), value = nullable(number()), .min_rows = 1, .max_rows = 1040),
        forecast_weeks = optional(integer(min = 1, max = 52), 4L),
        anomaly_threshold = optional(number(above = 0, max = 10), 2.5),
        n_samples = optional(integer(min = 100, max = 100000), 1000L)
      ),
      response = record(
        metric = string(), engine = choice("prophet", "naive", "seasonal-naive", "constant"),
        changepoints = columns(week_start = date(), delta = number()),
        forecast = columns(week_start = date(), yhat = number(), lower = number(), upper = number()),
        history = columns(
          week_start = date(), value = nullable(number()), expected = number(), lower = number(),
          upper = number(), score = nullable(number()), anomaly = boolean()
        ),
        metrics = record(
          n_weeks = integer(), n_left_out = integer(), interval_level = share, mae_prophet = estimate,
          mae_naive = estimate, mae_seasonal_naive = estimate, n_rolling_origins = integer(),
          changepoint_prior_scale = estimate, residual_sd = number(), coverage = share
        )
      )
    )
  )
)
