visits_of <- function(user_id, day, gap_days, event, ...) {
  data.frame(user_id = user_id, day = day, gap_days = gap_days, event = event, ...)
}

survival_body <- function(visits, covariates = character(), threshold_days = 14, holdout_days = 28L,
                          as_of_day = max(visits$day + visits$gap_days), score = NULL) {
  list(
    visits = visits, covariates = covariates, threshold_days = threshold_days, holdout_days = holdout_days,
    as_of_day = as_of_day, score = score
  )
}

#' Visits of `n_users` over `days` days: the next one comes after geometric days with hazard
#' base * exp(effect * x), x drawn anew at each visit; censored at the last day.
simulate_visits <- function(n_users, days = 120, base = 0.12, effect = 0.5, seed = 1) {
  set.seed(seed)
  walk <- function(user) {
    day <- sample.int(20, 1)
    rows <- list()
    while (day < days) {
      x <- stats::rnorm(1)
      gap <- 1 + stats::rgeom(1, 1 - exp(-base * exp(effect * x)))
      seen <- min(gap, days - day)
      rows[[length(rows) + 1]] <- visits_of(user, day, seen, gap <= seen, x = x)
      day <- day + gap
    }
    do.call(rbind, rows)
  }
  do.call(rbind, lapply(paste0("u", seq_len(n_users)), walk))
}

weeks_of <- function(value, from = "2024-01-01") {
  data.frame(week_start = as.Date(from) + 7 * (seq_along(value) - 1), value = value)
}

prophet_body <- function(weeks, forecast_weeks = 4L, anomaly_threshold = 2.5, n_samples = 300L) {
  list(
    metric = "I_t", weeks = weeks, forecast_weeks = forecast_weeks, anomaly_threshold = anomaly_threshold,
    n_samples = n_samples, seed = 1L
  )
}

forecast_of <- function(value, ...) {
  set.seed(1)
  fit_prophet(prophet_body(weeks_of(value), ...))
}
