# How often ordinary weeks are called anomalies, how often planted ones are found, and how often the next four
# weeks are inside their intervals, by Prophet and all that is around it.
#
#   Rscript r-forecast-plumber/grid.R ENGINE NOISE WEEKS OFF SERIES SEED > grid.csv
#
# A series is a line with noise of sd .02 around it; a planted week, at a random place, is OFF sd away. ENGINE
# is prophet, or line: a straight line in its place, by least squares, a hundred times as fast.

# Noise of sd 1. I_t compares two weeks with the two before, other KPIs look back four weeks (docs/kpis.md):
# what chance adds to a week is in the next three weeks, too.
windows <- function(weights) {
  force(weights)
  function(n) drop(stats::embed(stats::rnorm(n + 3), 4) %*% weights) / 2
}
noises <- list(
  independent = stats::rnorm,
  two_against_two = windows(c(1, 1, -1, -1)),
  four_week_mean = windows(c(1, 1, 1, 1)),
  ar1 = function(n) as.numeric(stats::arima.sim(list(ar = 0.5), n)) * sqrt(0.75),
  random_walk = function(n) cumsum(stats::rnorm(n))
)

line <- list(
  expect = function(values, dates, at) {
    known <- which(!is.na(values))
    line <- stats::lm.fit(cbind(1, known), values[known])$coefficients
    list(expected = drop(cbind(1, at) %*% line), inflation = line_inflation(known, at))
  },
  ahead = function(values, dates, horizon, n_samples) {
    found <- line$expect(values, dates, length(values) + seq_len(horizon))
    list(
      yhat = found$expected, inflation = found$inflation, trend_sd = rep(0, horizon),
      changepoints = no_changepoints
    )
  }
)

#' One row a series: the `engine` that was chosen; `ordinary` weeks and how many of them are `alarms`; whether
#' the planted one is `found` (NA for none); of four weeks ahead, how many are inside the interval of `level`
#' (`covered_80`) and how many inside the published one.
judge <- function(noise, n_weeks, off, level = 0.8) {
  sd <- 0.02
  value <- 0.3 + 0.004 * seq_len(n_weeks + 4) + sd * noises[[noise]](n_weeks + 4)
  at <- sample.int(n_weeks, 1)
  value[at] <- value[at] + sample(c(-1, 1), 1) * off * sd
  fit <- fit_prophet(list(
    metric = "I_t", forecast_weeks = 4L, anomaly_threshold = 2.5, n_samples = 200L, seed = 1L,
    weeks = data.frame(
      week_start = as.Date("2023-01-02") + 7 * (seq_len(n_weeks) - 1), value = value[seq_len(n_weeks)]
    )
  ))
  odd <- fit$history$anomaly
  ordinary <- if (off == 0) odd else odd[-at]
  # the interval at another level is as much narrower as the quantiles of the same t distribution say
  df <- spread_df(fit$metrics$n_weeks)
  narrower <- stats::qt((1 + level) / 2, df) / stats::qt(stats::pnorm(2.5), df)
  away <- abs(value[n_weeks + 1:4] - fit$forecast$yhat)
  half <- (fit$forecast$upper - fit$forecast$lower) / 2
  data.frame(
    noise = noise, n_weeks = n_weeks, off = off, engine = fit$engine, ordinary = length(ordinary),
    alarms = sum(ordinary), found = if (off == 0) NA else odd[at], covered_80 = sum(away <= narrower * half),
    covered_published = sum(away <= half)
  )
}

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
service_dir <- dirname(normalizePath(script))
suppressPackageStartupMessages(library(prophet))
for (file in list.files(file.path(service_dir, "R"), pattern = "[.]R$", full.names = TRUE)) source(file)
arguments <- commandArgs(TRUE)
number <- as.integer(arguments[-(1:2)])
if (arguments[1] == "line") engines[names(bend_scales)] <- list(line)
set.seed(number[4])
rows <- replicate(number[3], judge(arguments[2], number[1], number[2]), simplify = FALSE)
utils::write.csv(cbind(fitted = arguments[1], do.call(rbind, rows)), row.names = FALSE)
