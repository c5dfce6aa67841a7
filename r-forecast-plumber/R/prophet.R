# Weekly metrics: where they are heading, and which weeks were not as expected.
#
# Prophet (Taylor & Letham, Am Stat 72:37, 2018) is a trend that may bend, plus a yearly season from two
# years on. It is used only where it forecast the metric's own past better than a naive forecast did
# (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., sections 5.2 and 5.10). Each
# week is judged by a fit that did not see it.

# Prophet's default, for a trend that hardly bends, and the upper end of the range that its documentation
# suggests for one that does; the metric's own past decides.
bend_scales <- c(prophet = 0.05, "prophet-bending" = 0.5)
least_weeks <- 8L # with fewer, a trend, its bends and the noise around it cannot be told apart
season_weeks <- 52L
# Prophet's own: a yearly season from two years on, and up to 25 changepoints in the first 80 % of the weeks
season_days <- 730L
n_changepoints <- 25L
changepoint_range <- 0.8
# Forecasts of the own past by which Prophet may show that it is the better one, so from 11 weeks on. With
# fewer, a trend that is drawn on over four weeks is further off than the last value, but for steep ones
# (docs/models/forecast.md).
least_origins <- 3L
most_origins <- 12L
# With more weeks, those that are 27 apart are left out at once, so that long series take no longer. They are
# never those some years away by which the seasonal-naive forecast judges a week: of the multiples of 52 below
# `longest`, none is one of 27.
most_folds <- 27L
longest <- 1040L # weeks, from the first to the last: 20 years
wild_limit <- 6 # robust sd from the median of the weeks around: left out of every fit
bend_limit <- 0.01 # smallest change of Prophet's scaled slope that is reported, as in its own plots

#' Forecasts one metric and judges its weeks.
#'
#' @param body list: `metric`; `weeks`, a data frame of week_start (Date, Mondays, ascending) and value (NA
#'   for a gap); `forecast_weeks`; `anomaly_threshold` in standard deviations; `n_samples` of future trends;
#'   `seed`.
#' @return list as declared for /prophet/fit in api.R. A score is the deviation from the expected value in
#'   robust standard deviations, put on the normal scale, so that beyond +-2.5 lie 1.2 % of normal weeks
#'   however few weeks there are. `lower` and `upper` enclose what is no anomaly.
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
  choice <- choose_engine(calm, series$week_start, body$forecast_weeks)
  engine <- engines[[choice$engine]]

  judged <- judge_weeks(series, wild, engine, body$anomaly_threshold)
  ahead <- engine$ahead(calm, series$week_start, body$forecast_weeks, body$n_samples)
  half_width <- forecast_half_width(ahead, judged)
  history <- judged$weeks[match(body$weeks$week_start, judged$weeks$week_start), ]
  rownames(history) <- NULL
  scored <- !is.na(history$score)
  list(
    metric = body$metric,
    engine = if (choice$engine %in% names(bend_scales)) "prophet" else choice$engine,
    changepoints = ahead$changepoints,
    forecast = data.frame(
      week_start = max(series$week_start) + 7 * seq_len(body$forecast_weeks), yhat = ahead$yhat,
      lower = ahead$yhat - half_width, upper = ahead$yhat + half_width
    ),
    history = history,
    metrics = list(
      n_weeks = n_weeks, n_left_out = sum(wild),
      interval_level = 2 * stats::pnorm(body$anomaly_threshold) - 1,
      mae_prophet = least(choice$errors[names(bend_scales)]), mae_naive = choice$errors[["naive"]],
      mae_seasonal_naive = choice$errors[["seasonal-naive"]], n_rolling_origins = choice$n_origins,
      changepoint_prior_scale = unname(bend_scales[choice$engine]),
      residual_sd = judged$residual_sd,
      coverage = mean((history$value >= history$lower & history$value <= history$upper)[scored])
    ),
    warnings = c(
      choice$note,
      name_weeks("Without a value, and so not judged", series$week_start[is.na(series$value)]),
      name_weeks("Far from the weeks around and left out of the fit", series$week_start[wild])
    )
  )
}

#' A sentence that names weeks, the first few where they are many; NULL where there are none.
name_weeks <- function(what, weeks, most = 5L) {
  if (length(weeks) == 0L) return(NULL)
  more <- if (length(weeks) > most) sprintf(" and %d more", length(weeks) - most)
  paste0(what, ": ", paste(weeks[seq_len(min(most, length(weeks)))], collapse = ", "), more, ".")
}

#' Runs once in a worker: the first Prophet fit of a process takes two seconds longer than the next ones.
warm_forecast <- function() {
  weeks <- data.frame(
    week_start = as.Date("2024-01-01") + 7 * (0:11), value = 0.3 + 0.01 * (0:11) + 0.05 * sin(1:12)
  )
  engines$prophet$ahead(weeks$value, weeks$week_start, 4L, 10L)
  invisible()
}

# ---- Weeks

check_weeks <- function(week_start) {
  where <- function(i) sprintf("weeks.week_start[%d]", i - 1L)
  no_monday <- which(as.integer(week_start) %% 7L != 4L) # day 0 was a Thursday
  if (length(no_monday)) seedplumber::abort_invalid(where(no_monday[1L]), "must be a Monday")
  back <- which(diff(week_start) <= 0) + 1L
  if (length(back)) seedplumber::abort_invalid(where(back[1L]), "must be later than the week before it")
  far <- which(week_start - week_start[1L] >= 7L * longest)
  if (length(far)) {
    message <- sprintf("must be within %d weeks from the first", longest)
    seedplumber::abort_invalid(where(far[1L]), message)
  }
}

#' Every week from the first to the last, with NA where none was given.
weekly_grid <- function(weeks) {
  every <- seq(min(weeks$week_start), max(weeks$week_start), by = 7)
  data.frame(week_start = every, value = weeks$value[match(every, weeks$week_start)])
}

# stats::mad() is in sd of normal values. Where most deviations are 0 the mean deviation stands in
# (its normal factor is 1.2533): Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993).
robust_sd <- function(deviations) {
  mad <- stats::mad(deviations, center = 0)
  if (mad > 0) mad else 1.2533 * mean(abs(deviations))
}

#' Weeks so far from the running median that one of them would bend any fit. A shift of level is none: the
#' median follows it. More than a fifth of the weeks are never wild.
#'
#' A trend is taken off before, as the median step between weeks: along one, the running median would pass
#' through most weeks, and their distances from it would say nothing of noise. That is told from the steps.
wild_weeks <- function(values) {
  known <- which(!is.na(values))
  y <- values[known]
  steps <- diff(y)
  level <- y - stats::median(steps) * seq_along(y)
  off <- abs(level - stats::runmed(level, k = 5L, endrule = "median"))
  noise <- stats::mad(steps) / sqrt(2)
  far <- off > max(wild_limit * noise, 1e-9 * max(abs(y)))
  if (sum(far) > length(y) / 5) far[] <- FALSE
  seq_along(values) %in% known[far]
}

# ---- Engines
#
# An engine is a list of two functions of a weekly series (NA where nothing is known) and its dates; a third,
# `values`, says how many independent values the deviations of some weeks hold, where these are fewer.
# expect(values, dates, at): list(expected, inflation) for the weeks at positions `at`: the expected value,
#   and by how much a deviation from it exceeds, in sd, the noise of one week, since the fit is uncertain
#   too; NA where the engine knows nothing of that week.
# ahead(values, dates, horizon, n_samples): list(yhat, inflation, trend_sd, changepoints) for the weeks
# after the last.

no_changepoints <- data.frame(week_start = as.Date(character()), delta = numeric())

#' A Prophet model of a data frame with columns ds and y (NA allowed).
prophet_model <- function(history, bend_scale = bend_scales[["prophet"]], weekly = FALSE) {
  model <- withCallingHandlers(
    without_early_ends(prophet::prophet(
      history,
      growth = "linear", n.changepoints = n_changepoints, changepoint.range = changepoint_range,
      yearly.seasonality = "auto", weekly.seasonality = weekly, daily.seasonality = FALSE,
      changepoint.prior.scale = bend_scale, uncertainty.samples = 0, algorithm = "LBFGS"
    )),
    message = function(m) invokeRestart("muffleMessage")
  )
  if (!is.null(model$stan.fit)) check_end(model$stan.fit)
  model
}

# Where LBFGS ends early, Newton's method starts again: only the end counts, of which check_end() speaks.
without_early_ends <- function(optimising) {
  withCallingHandlers(optimising, warning = function(w) {
    if (grepl("return code in optimizing", conditionMessage(w))) invokeRestart("muffleWarning")
  })
}

check_end <- function(fit) {
  if (fit$return_code != 0L) warning("Prophet's optimiser did not converge.", call. = FALSE)
}

#' What Prophet expects of some weeks.
#'
#' Where the known weeks span less than two years, Prophet has no season, only its trend (Taylor & Letham,
#' equation 3). prophet() and predict() then spend four fifths of their time on tables of seasons, and a
#' forecast fits some eighty models: so Prophet's Stan model is given here what prophet() would give it. What
#' is expected is the same to rounding, which test-prophet.R holds.
prophet_expects <- function(values, dates, at, bend_scale) {
  known <- which(!is.na(values))
  if (diff(range(dates[known])) >= season_days) {
    model <- prophet_model(data.frame(ds = dates, y = values), bend_scale)
    return(stats::predict(model, data.frame(ds = dates[at]))$yhat)
  }
  y <- values[known]
  if (min(y) == max(y)) return(rep(y[1L], length(at)))
  n <- length(known)
  scale <- max(abs(y))
  t <- as.numeric(dates - dates[known[1L]]) / as.numeric(dates[known[n]] - dates[known[1L]])
  seen <- floor(n * changepoint_range)
  change <- round(seq.int(1, seen, length.out = min(n_changepoints, seen - 1) + 1))[-1L]
  change <- t[known[change]]
  data <- list(
    T = n, t = t[known], y = y / scale, cap = rep(0, n), trend_indicator = 0,
    S = length(change), t_change = array(change), tau = bend_scale,
    K = 1L, X = matrix(0, n, 1L), sigmas = array(1), s_a = array(0), s_m = array(0) # no season
  )
  slope <- data$y[n] - data$y[1L]
  start <- list(k = slope, m = data$y[1L], delta = array(0 * change), beta = array(0), sigma_obs = 1)
  since <- outer(t[at], change, function(t, change) pmax(t - change, 0))
  with(optimise_prophet(data, start), (m + k * t[at] + drop(since %*% delta)) * scale)
}

#' The parameters of Prophet's Stan model, by LBFGS, and where that ends early by Newton's method, as
#' prophet() does.
optimise_prophet <- function(data, start, optimizing = rstan::optimizing) {
  optimise <- function(algorithm) {
    without_early_ends(optimizing(
      utils::getFromNamespace("stanmodels", "prophet")$prophet,
      data = data, init = function() start, algorithm = algorithm, iter = 10000, as_vector = FALSE
    ))
  }
  fit <- optimise("LBFGS")
  if (fit$return_code != 0L) fit <- optimise("Newton")
  check_end(fit)
  fit$par
}

# By how much the sd of a prediction exceeds that of the noise where a straight line is fitted to `known`
# positions.
line_inflation <- function(known, at) {
  centre <- mean(known)
  sqrt(1 + 1 / length(known) + (at - centre)^2 / sum((known - centre)^2))
}

prophet_engine <- function(bend_scale) {
  list(
    expect = function(values, dates, at) {
      list(
        expected = prophet_expects(values, dates, at, bend_scale),
        inflation = line_inflation(which(!is.na(values)), at)
      )
    },
    ahead = function(values, dates, horizon, n_samples) {
      model <- prophet_model(data.frame(ds = dates, y = values), bend_scale)
      future <- data.frame(ds = max(dates) + 7 * seq_len(horizon))
      model$uncertainty.samples <- n_samples
      trends <- prophet::predictive_samples(model, future)$trend
      change <- drop(model$params$delta)
      bends <- if (length(model$changepoints)) which(abs(change) >= bend_limit) else integer()
      a_week <- 604800 / model$t.scale # t.scale: seconds of the whole history
      model$uncertainty.samples <- 0
      list(
        yhat = stats::predict(model, future)$yhat,
        inflation = line_inflation(which(!is.na(values)), length(values) + seq_len(horizon)),
        trend_sd = apply(matrix(trends, nrow = horizon), 1L, stats::sd),
        changepoints = data.frame(
          week_start = as.Date(model$changepoints[bends]), delta = change[bends] * model$y.scale * a_week
        )
      )
    }
  )
}

# A random walk in steps of `lag` weeks. A week inside is expected on the line between its nearest known
# neighbours, a and b steps away: its deviation has variance a b / (a + b) steps; at an end, a steps.
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
    if (!any(found)) return(c(stats::median(values, na.rm = TRUE), NA)) # no week a year away is known
    if (!all(found)) return(c(values[near[found]], sqrt(steps[found])))
    c(sum(values[near] * rev(steps)) / sum(steps), sqrt(prod(steps) / sum(steps)))
  }
  list(
    # The deviations of n weeks in a row are n - 1 steps between them: of a pair, the same twice.
    values = if (lag > 1L) function(weeks) length(weeks) - length(unique(weeks %% lag)),
    expect = function(values, dates, at) {
      found <- vapply(at, function(i) one(values, i), c(0, 0))
      list(expected = found[1L, ], inflation = found[2L, ])
    },
    ahead = function(values, dates, horizon, n_samples) {
      longer <- c(values, rep(NA, horizon))
      found <- vapply(length(values) + seq_len(horizon), function(i) one(longer, i), c(0, 0))
      inflation <- replace(found[2L, ], is.na(found[2L, ]), 1)
      list(
        yhat = found[1L, ], inflation = inflation, trend_sd = rep(0, horizon), changepoints = no_changepoints
      )
    }
  )
}

#' Positions of the weeks of which a week some whole years away is known, too.
in_pairs <- function(values) {
  known <- which(!is.na(values))
  season <- known %% season_weeks
  known[season %in% season[duplicated(season)]]
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

engines <- c(
  lapply(bend_scales, prophet_engine),
  list(naive = naive_engine(1L), "seasonal-naive" = naive_engine(season_weeks), constant = constant_engine)
)

# ---- Choice of the engine: forecasts of the metric's own past from rolling origins

#' @return list: `engine` (name in `engines`), `errors` (mean absolute error of each engine, NA where it was
#'   not tried), `n_origins`, `note` (a sentence where Prophet is not the choice).
choose_engine <- function(calm, dates, horizon) {
  prophets <- names(bend_scales)
  simple <- c("naive", "seasonal-naive")
  errors <- stats::setNames(rep(NA_real_, 4L), c(prophets, simple))
  known <- which(!is.na(calm))
  chosen <- function(engine, origins, note = NULL) {
    list(engine = engine, errors = errors, n_origins = length(origins), note = note)
  }
  if (length(unique(calm[known])) == 1L) {
    return(chosen("constant", NULL, "The metric is constant: so is its forecast."))
  }
  n <- length(calm)
  origins <- Filter(function(o) sum(known <= o) >= least_weeks && any(known > o), seq_len(n - 1L))
  origins <- utils::tail(origins, most_origins)
  if (length(origins) < least_origins) {
    note <- "Too few weeks for Prophet to show that it forecasts better; the last value is used."
    return(chosen("naive", NULL, note))
  }
  # an origin must have seen a year before a season can be repeated, and enough weeks another of their season
  seasonal <- min(origins) >= season_weeks && length(in_pairs(calm)) >= 2L * least_weeks
  tried <- setdiff(names(errors), if (!seasonal) "seasonal-naive")
  for (name in tried) errors[[name]] <- past_error(engines[[name]], calm, dates, origins, horizon)
  prophet <- names(which.min(errors[prophets]))
  simpler <- names(which.min(errors[simple]))
  if (errors[[prophet]] < errors[[simpler]]) return(chosen(prophet, origins))
  note <- sprintf(
    "Prophet forecast %d past weeks no better than a %s forecast %s; the simpler one is used.",
    length(origins), simpler,
    sprintf("(mean absolute error %.3g, against %.3g)", errors[[prophet]], errors[[simpler]])
  )
  chosen(simpler, origins, note)
}

#' Mean absolute error of the forecasts that an engine would have made at the origins.
past_error <- function(engine, calm, dates, origins, horizon) {
  off <- lapply(origins, function(o) {
    at <- seq(o + 1L, min(length(calm), o + horizon))
    upto <- seq_len(max(at))
    abs(calm[at] - engine$expect(replace(calm[upto], at, NA), dates[upto], at)$expected)
  })
  mean(unlist(off), na.rm = TRUE)
}

# ---- Judgement

#' Judges every week by a fit without it; up to `most_folds` weeks each have their own. A week of which the
#' engine knows nothing has no say in the spread. It is not judged, and its interval is the range of the calm
#' weeks, unless it is wild: then by their median and the spread around that.
#'
#' @return list: `weeks` (data frame: week_start, value, expected, lower, upper, score, anomaly),
#'   `residual_sd`, `quantile` (half width of the interval in robust sd).
judge_weeks <- function(series, wild, engine, threshold) {
  y <- series$value
  calm <- replace(y, wild, NA)
  seen <- leave_out(calm, series$week_start, engine)
  expected <- seen$expected
  inflation <- seen$inflation
  unknown <- is.na(inflation)
  usable <- which(!is.na(y) & !unknown)
  inflation[unknown & wild] <- 1
  deviation <- (y - expected) / inflation
  # the judged week has no say in the spread that it is judged by
  spread <- vapply(seq_along(y), function(i) robust_sd(deviation[setdiff(usable, i)]), 0)
  # nor has the furthest one by bending the fits of the others: with eight weeks it would hide itself
  furthest <- usable[which.max(abs(deviation[usable]))]
  if (!wild[furthest]) {
    without <- leave_out(replace(calm, furthest, NA), series$week_start, engine)
    others <- setdiff(usable, furthest)
    from_others <- ((y - without$expected) / without$inflation)[others]
    spread[furthest] <- robust_sd(from_others[!is.na(from_others)])
  }
  spread[unknown & wild] <- stats::mad(calm, na.rm = TRUE)
  spread <- pmax(spread, 1e-9 * max(abs(y), na.rm = TRUE), .Machine$double.xmin)
  df <- spread_df(if (is.null(engine$values)) length(usable) else engine$values(usable))
  tail <- stats::pt(-abs(deviation / spread), df, log.p = TRUE)
  score <- -sign(deviation) * stats::qnorm(tail, log.p = TRUE)
  quantile <- -stats::qt(stats::pnorm(-threshold), df) # by the lower tail, which does not end at 1
  half_width <- quantile * spread * inflation
  unjudged <- unknown & !wild
  list(
    weeks = data.frame(
      week_start = series$week_start, value = y, expected = expected,
      lower = replace(expected - half_width, unjudged, min(calm, na.rm = TRUE)),
      upper = replace(expected + half_width, unjudged, max(calm, na.rm = TRUE)),
      score = score, anomaly = !is.na(score) & abs(score) > threshold
    ),
    residual_sd = robust_sd(deviation[usable]),
    quantile = quantile
  )
}

#' What each week is expected to be by a fit that leaves it out: list(expected, inflation), as engines give
#' it.
leave_out <- function(calm, dates, engine) {
  n <- length(calm)
  expected <- inflation <- numeric(n)
  for (left_out in split(seq_len(n), folds(!is.na(calm)))) {
    found <- engine$expect(replace(calm, left_out, NA), dates, left_out)
    expected[left_out] <- found$expected
    inflation[left_out] <- found$inflation
  }
  list(expected = expected, inflation = inflation)
}

#' Which weeks are left out together. Of few known weeks, and of weeks whose gaps would put many into one
#' fold, each has its own, and the gaps share one.
#' @param known whether each week has a value; @return a number for each week.
folds <- function(known) {
  fold <- (seq_along(known) - 1L) %% most_folds
  even <- max(tabulate(fold[known] + 1L)) <= sum(known) / 8
  if (sum(known) > most_folds && even) return(fold)
  cumsum(known) * known
}

# Degrees of freedom of the t distribution that a deviation divided by the MAD of the others follows. The
# MAD knows the spread as well as an sd of 0.37 n values would (its efficiency, Rousseeuw & Croux, J Am Stat
# Assoc 88:1273, 1993). 0.4 n: what comes of it on simulated series is in docs/models/validation.md.
spread_df <- function(n) 0.4 * n

#' Half widths of the forecast's interval: the noise of a week, the uncertain fit, and bends of the trend to
#' come.
forecast_half_width <- function(ahead, judged) {
  judged$quantile * sqrt(judged$residual_sd^2 * ahead$inflation^2 + ahead$trend_sd^2)
}

least <- function(x) if (all(is.na(x))) NA_real_ else min(x, na.rm = TRUE)
