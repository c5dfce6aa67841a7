# Weekly metrics: where they are heading, and which weeks were not as expected.
#
# Prophet (Taylor & Letham, Am Stat 72:37, 2018) is a trend that may bend, plus a yearly season from two years on.
# It is used only where it forecast the metric's own past better than a naive forecast did (Hyndman & Athanasopoulos,
# Forecasting: Principles and Practice, 3rd ed., sections 5.2 and 5.10). Each week is judged by a fit that did not see it.

least_weeks <- 8L # with fewer, a trend, its bends and the noise around it cannot be told apart
season_weeks <- 52L
least_origins <- 3L # forecasts of the own past that a choice between engines needs
most_origins <- 12L
most_folds <- 52L # beyond, several weeks far apart are left out at once
wild_limit <- 6 # robust sd from the median of the weeks around: left out of every fit
bend_limit <- 0.01 # smallest change of Prophet's scaled slope that is reported, as in its own plots

#' Forecasts one metric and judges its weeks.
#'
#' @param body list: `metric`; `weeks`, a data frame of week_start (Date, Mondays, ascending) and value (NA for a gap);
#'   `forecast_weeks`; `anomaly_threshold` in standard deviations; `n_samples` of future trends; `seed`.
#' @return list as declared for /prophet/fit in api.R. A score is the deviation from the expected value in robust
#'   standard deviations, put on the normal scale, so that beyond +-2.5 lie 1.2 % of normal weeks however few
#'   weeks there are. `lower` and `upper` enclose what is no anomaly.
#' Raises seedplumber_invalid for weeks that are no ascending Mondays, seedplumber_unfittable below 8 values.
fit_prophet <- function(body) {
  check_weeks(body$weeks$week_start)
  series <- weekly_grid(body$weeks)
  n_weeks <- sum(!is.na(series$value))
  if (n_weeks < least_weeks) {
    seedplumber::abort_unfittable(
      sprintf("%s has %d weeks with a value; a forecast needs %d.", body$metric, n_weeks, least_weeks)
    )
  }
  wild <- wild_weeks(series$value)
  calm <- replace(series$value, wild, NA)
  choice <- choose_engine(calm, body$forecast_weeks)
  engine <- engines[[choice$engine]]

  judged <- judge_weeks(series, wild, engine, body$anomaly_threshold)
  ahead <- engine$ahead(calm, series$week_start, body$forecast_weeks, body$n_samples)
  half_width <- judged$quantile * sqrt(judged$residual_sd^2 * ahead$inflation^2 + ahead$trend_sd^2)
  history <- judged$weeks[match(body$weeks$week_start, judged$weeks$week_start), ]
  rownames(history) <- NULL
  known <- !is.na(history$value)
  list(
    metric = body$metric,
    engine = choice$engine,
    changepoints = ahead$changepoints,
    forecast = data.frame(
      week_start = max(series$week_start) + 7 * seq_len(body$forecast_weeks), yhat = ahead$yhat,
      lower = ahead$yhat - half_width, upper = ahead$yhat + half_width
    ),
    history = history,
    metrics = list(
      n_weeks = n_weeks, n_left_out = sum(wild), interval_level = 2 * stats::pnorm(body$anomaly_threshold) - 1,
      mae_prophet = choice$errors[["prophet"]], mae_naive = choice$errors[["naive"]],
      mae_seasonal_naive = choice$errors[["seasonal-naive"]], n_rolling_origins = choice$n_origins,
      residual_sd = judged$residual_sd,
      coverage = mean((history$value >= history$lower & history$value <= history$upper)[known])
    ),
    warnings = c(
      choice$note,
      if (any(wild)) {
        paste("Far from the weeks around and left out of the fit:", paste(series$week_start[wild], collapse = ", "))
      }
    )
  )
}

#' Runs once in a worker: the first Prophet fit of a process takes two seconds longer than the next ones.
warm_forecast <- function() {
  weeks <- data.frame(
    week_start = as.Date("2024-01-01") + 7 * (0:11), value = 0.3 + 0.01 * (0:11) + 0.05 * sin(1:12)
  )
  prophet_engine$expect(weeks$value, weeks$week_start, 12L)
  invisible()
}

# ---- Weeks

check_weeks <- function(week_start) {
  where <- function(i) sprintf("weeks.week_start[%d]", i - 1L)
  no_monday <- which(as.integer(week_start) %% 7L != 4L) # day 0 was a Thursday
  if (length(no_monday)) seedplumber::abort_invalid(where(no_monday[1L]), "must be a Monday")
  back <- which(diff(week_start) <= 0) + 1L
  if (length(back)) seedplumber::abort_invalid(where(back[1L]), "must be later than the week before it")
}

#' Every week from the first to the last, with NA where none was given.
weekly_grid <- function(weeks) {
  every <- seq(min(weeks$week_start), max(weeks$week_start), by = 7)
  data.frame(week_start = every, value = weeks$value[match(every, weeks$week_start)])
}

# 1.4826: the MAD of normal values is 0.6745 sd. Where most deviations are 0 the mean deviation stands in (its normal
# factor is 1.2533): Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993).
robust_sd <- function(deviations) {
  mad <- 1.4826 * stats::median(abs(deviations))
  if (mad > 0) mad else 1.2533 * mean(abs(deviations))
}

#' Weeks so far from the running median that one of them would bend any fit. A shift of level is none: the median
#' follows it. More than a fifth of the weeks are never wild.
wild_weeks <- function(values) {
  known <- which(!is.na(values))
  y <- values[known]
  around <- stats::runmed(y, k = 5L, endrule = "median")
  far <- abs(y - around) > max(wild_limit * 1.4826 * stats::median(abs(y - around)), 1e-9 * max(abs(y)))
  if (sum(far) > length(y) / 5) far[] <- FALSE
  seq_along(values) %in% known[far]
}

# ---- Engines
#
# An engine is a list of two functions of a weekly series (NA where nothing is known) and its dates.
# expect(values, dates, at): list(expected, inflation) for the weeks at positions `at`: the expected value, and by how much
#   a deviation from it exceeds, in sd, the noise of one week, since the fit is uncertain too.
# ahead(values, dates, horizon, n_samples): list(yhat, inflation, trend_sd, changepoints) for the weeks after the last.

no_changepoints <- data.frame(week_start = as.Date(character()), delta = numeric())

#' A Prophet model of a data frame with columns ds and y (NA allowed).
prophet_model <- function(history, yearly = "auto", weekly = FALSE) {
  suppressMessages(prophet::prophet(
    history,
    growth = "linear", yearly.seasonality = yearly, weekly.seasonality = weekly, daily.seasonality = FALSE,
    uncertainty.samples = 0, algorithm = "LBFGS"
  ))
}

# By how much the sd of a prediction exceeds that of the noise where a straight line is fitted to `known` positions.
line_inflation <- function(known, at) {
  centre <- mean(known)
  sqrt(1 + 1 / length(known) + (at - centre)^2 / sum((known - centre)^2))
}

prophet_engine <- list(
  expect = function(values, dates, at) {
    model <- prophet_model(data.frame(ds = dates, y = values))
    list(
      expected = stats::predict(model, data.frame(ds = dates[at]))$yhat,
      inflation = line_inflation(which(!is.na(values)), at)
    )
  },
  ahead = function(values, dates, horizon, n_samples) {
    model <- prophet_model(data.frame(ds = dates, y = values))
    future <- data.frame(ds = max(dates) + 7 * seq_len(horizon))
    model$uncertainty.samples <- n_samples
    trends <- prophet::predictive_samples(model, future)$trend
    slope_changes <- drop(model$params$delta) * model$y.scale / (model$t.scale / 604800)
    bends <- if (length(model$changepoints)) which(abs(drop(model$params$delta)) >= bend_limit) else integer()
    model$uncertainty.samples <- 0
    list(
      yhat = stats::predict(model, future)$yhat,
      inflation = line_inflation(which(!is.na(values)), length(values) + seq_len(horizon)),
      trend_sd = apply(matrix(trends, nrow = horizon), 1L, stats::sd),
      changepoints = data.frame(week_start = as.Date(model$changepoints[bends]), delta = slope_changes[bends])
    )
  }
)

# A random walk in steps of `lag` weeks. A week inside is expected on the line between its nearest known neighbours, a
# and b steps away: its deviation has variance a b / (a + b) steps; at an end, a steps.
naive_engine <- function(lag) {
  neighbours <- function(values, at) {
    known <- which(!is.na(values))
    known <- known[(known - at) %% lag == 0L]
    c(max(known[known < at], -Inf), min(known[known > at], Inf))
  }
  one <- function(values, at) {
    near <- neighbours(values, at)
    steps <- abs(near - at) / lag
    found <- is.finite(steps)
    if (!any(found)) return(c(stats::median(values, na.rm = TRUE), 1)) # a lone week of the year
    if (!all(found)) return(c(values[near[found]], sqrt(steps[found])))
    c(sum(values[near] * rev(steps)) / sum(steps), sqrt(prod(steps) / sum(steps)))
  }
  list(
    expect = function(values, dates, at) {
      found <- vapply(at, function(i) one(values, i), c(0, 0))
      list(expected = found[1L, ], inflation = found[2L, ])
    },
    ahead = function(values, dates, horizon, n_samples) {
      longer <- c(values, rep(NA, horizon))
      found <- vapply(length(values) + seq_len(horizon), function(i) one(longer, i), c(0, 0))
      list(yhat = found[1L, ], inflation = found[2L, ], trend_sd = rep(0, horizon), changepoints = no_changepoints)
    }
  )
}

constant_engine <- list(
  expect = function(values, dates, at) {
    list(expected = rep(stats::median(values, na.rm = TRUE), length(at)), inflation = rep(1, length(at)))
  },
  ahead = function(values, dates, horizon, n_samples) {
    list(
      yhat = rep(stats::median(values, na.rm = TRUE), horizon), inflation = rep(1, horizon),
      trend_sd = rep(0, horizon), changepoints = no_changepoints
    )
  }
)

engines <- list(
  prophet = prophet_engine, naive = naive_engine(1L), "seasonal-naive" = naive_engine(season_weeks),
  constant = constant_engine
)

# ---- Choice of the engine: forecasts of the metric's own past from rolling origins

#' @return list: `engine` (name), `errors` (mean absolute error of each engine, NA where it was not tried),
#'   `n_origins`, `note` (a sentence where Prophet is not the choice, or could not be compared).
choose_engine <- function(calm, horizon) {
  errors <- c(prophet = NA_real_, naive = NA_real_, "seasonal-naive" = NA_real_)
  known <- which(!is.na(calm))
  if (length(unique(calm[known])) == 1L) {
    note <- "The metric is constant: so is its forecast."
    return(list(engine = "constant", errors = errors, n_origins = 0L, note = note))
  }
  n <- length(calm)
  origins <- seq_len(n - 1L)
  origins <- origins[vapply(origins, function(o) sum(known <= o) >= least_weeks && any(known > o), NA)]
  origins <- utils::tail(origins, most_origins)
  # an origin must have seen a year before a season can be repeated
  tried <- c("prophet", "naive", if (length(origins) && min(origins) >= season_weeks) "seasonal-naive")
  for (name in tried) {
    off <- unlist(lapply(origins, function(o) {
      at <- seq(o + 1L, min(n, o + horizon))
      abs(calm[at] - forecast_from(engines[[name]], calm[seq_len(o)], length(at)))
    }))
    errors[[name]] <- if (length(off)) mean(off, na.rm = TRUE) else NA_real_
  }
  simpler <- names(which.min(errors[setdiff(tried, "prophet")]))
  if (length(origins) < least_origins) {
    note <- sprintf("Too few weeks to compare Prophet with a simpler forecast: %d origins.", length(origins))
    return(list(engine = "prophet", errors = errors, n_origins = length(origins), note = note))
  }
  better <- errors[["prophet"]] < errors[[simpler]]
  note <- if (!better) {
    sprintf(
      "Prophet forecast the last %d weeks no better than a %s forecast (mean absolute error %s, against %s), %s",
      length(origins), simpler, format(errors[["prophet"]], digits = 3), format(errors[[simpler]], digits = 3),
      "so the simpler one is used."
    )
  }
  list(engine = if (better) "prophet" else simpler, errors = errors, n_origins = length(origins), note = note)
}

forecast_from <- function(engine, past, horizon) {
  longer <- c(past, rep(NA, horizon))
  dates <- as.Date("2024-01-01") + 7 * (seq_along(longer) - 1) # the calendar matters to no engine before two years
  engine$expect(longer, dates, length(past) + seq_len(horizon))$expected
}

# ---- Judgement

#' Judges every week by a fit without it; up to `most_folds` weeks each have their own.
#'
#' @return list: `weeks` (data frame: week_start, value, expected, lower, upper, score, anomaly), `residual_sd`,
#'   `quantile` (half width of the interval in robust sd).
judge_weeks <- function(series, wild, engine, threshold) {
  y <- series$value
  n <- length(y)
  calm <- replace(y, wild, NA)
  fold <- (seq_len(n) - 1L) %% min(n, most_folds)
  expected <- inflation <- numeric(n)
  for (left_out in split(seq_len(n), fold)) {
    found <- engine$expect(replace(calm, left_out, NA), series$week_start, left_out)
    expected[left_out] <- found$expected
    inflation[left_out] <- found$inflation
  }
  deviation <- (y - expected) / inflation
  usable <- which(!is.na(y))
  # the judged week has no say in the spread that it is judged by
  spread <- vapply(seq_len(n), function(i) robust_sd(deviation[setdiff(usable, i)]), 0)
  spread <- pmax(spread, 1e-9 * max(abs(y), na.rm = TRUE), .Machine$double.xmin)
  df <- spread_df(length(usable))
  tail <- stats::pt(-abs(deviation / spread), df, log.p = TRUE)
  score <- -sign(deviation) * stats::qnorm(tail, log.p = TRUE)
  quantile <- stats::qt(stats::pnorm(threshold), df)
  half_width <- quantile * spread * inflation
  list(
    weeks = data.frame(
      week_start = series$week_start, value = y, expected = expected, lower = expected - half_width,
      upper = expected + half_width, score = score, anomaly = !is.na(score) & abs(score) > threshold
    ),
    residual_sd = robust_sd(deviation[usable]),
    quantile = quantile
  )
}

# Degrees of freedom of the t distribution that a deviation divided by the MAD of the others follows. The MAD knows the
# spread as well as an sd of 0.37 n values would (its efficiency, Rousseeuw & Croux, J Am Stat Assoc 88:1273, 1993);
# 0.4 n keeps the share of normal weeks beyond 2.5 below 1.24 % on simulated lines of 8 to 104 weeks, at .7 to 1.2 %.
spread_df <- function(n) 0.4 * n
