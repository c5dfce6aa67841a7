# The five forecasts that Prophet's documentation (quick start, R) prints for the logarithm of the daily views
# of Wikipedia's page on Peyton Manning. The views are those whose logarithms are in
# examples/example_wp_log_peyton_manning.csv of github.com/facebook/prophet.
test_that("Prophet itself forecasts Peyton Manning as published", {
  history <- utils::read.csv(testthat::test_path("peyton-manning.csv"))
  model <- prophet_model(data.frame(ds = as.Date(history$day), y = log(history$views)), weekly = "auto")
  ahead <- stats::predict(model, data.frame(ds = as.Date("2017-01-15") + 0:4))
  expect_lt(max(abs(ahead$yhat - c(8.2126, 8.5376, 8.3251, 8.1577, 8.1697))), 0.02)
})

test_that("what is expected is what prophet() predicts, before, within and after the known weeks", {
  set.seed(20)
  # a season from 107 on, of which the first is not known
  for (n in c(8, 9, 33, 60, 106, 107, 120)) for (bend in bend_scales) {
    dates <- as.Date("2022-01-03") + 7 * seq_len(n + 4)
    values <- c(replace(100 + cumsum(stats::rnorm(n)), c(if (n > 9) 1, 3), NA), rep(NA, 4))
    model <- prophet_model(data.frame(ds = dates, y = values), bend)
    predicted <- stats::predict(model, data.frame(ds = dates))$yhat
    expect_equal(prophet_expects(values, dates, seq_along(dates), bend), predicted, tolerance = 1e-12)
  }
  constant <- replace(rep(0.3, 8), 4, NA)
  expect_identical(prophet_expects(constant, dates[1:8], c(4L, 8L), 0.05), c(0.3, 0.3))
})

test_that("where LBFGS ends early Newton's method goes on, and only an end that is none is said, once", {
  ending <- function(codes) {
    function(..., algorithm) {
      if (codes[[algorithm]] != 0L) warning("non-zero return code in optimizing")
      list(return_code = codes[[algorithm]], par = algorithm)
    }
  }
  said <- function(codes) testthat::capture_warnings(optimise_prophet(list(), list(), ending(codes)))
  expect_equal(optimise_prophet(list(), list(), ending(c(LBFGS = 70L, Newton = 0L))), "Newton")
  expect_length(said(c(LBFGS = 70L, Newton = 0L)), 0)
  expect_equal(said(c(LBFGS = 70L, Newton = 70L)), "Prophet's optimiser did not converge.")
  expect_equal(optimise_prophet(list(), list(), ending(c(LBFGS = 0L))), "LBFGS")
})

test_that("a trend is continued", {
  set.seed(1)
  fit <- forecast_of(0.2 + 0.01 * (1:40) + stats::rnorm(40, 0, 0.005))
  expect_equal(fit$engine, "prophet")
  expect_equal(fit$forecast$yhat, 0.2 + 0.01 * (41:44), tolerance = 0.02)
  expect_equal(fit$forecast$week_start, as.Date("2024-01-01") + 7 * (40:43))
})

test_that("a bend in the trend is found and dated", {
  set.seed(2)
  weeks <- 1:60
  fit <- forecast_of(0.01 * weeks - 0.02 * pmax(0, weeks - 30) + stats::rnorm(60, 0, 0.005))
  expect_equal(fit$metrics$changepoint_prior_scale, 0.5)
  expect_equal(sum(fit$changepoints$delta), -0.02, tolerance = 0.1)
  strongest <- fit$changepoints$week_start[which.min(fit$changepoints$delta)]
  expect_lt(abs(as.numeric(strongest - as.Date("2024-01-01") - 7 * 30)), 7 * 5)
})

test_that("a planted week is found, named anomaly, and kept out of the forecast", {
  set.seed(3)
  for (n in c(8, 12, 40)) {
    value <- 0.3 + stats::rnorm(n, 0, 0.01)
    value[7] <- value[7] + 0.15
    fit <- forecast_of(value)
    expect_true(fit$history$anomaly[7])
    expect_lt(max(abs(fit$forecast$yhat - 0.3)), 0.05)
  }
})

test_that("one enormous outlier leaves the judgement of the other weeks as it was", {
  set.seed(14)
  value <- 0.3 + 0.01 * (1:20) + stats::rnorm(20, 0, 0.01)
  plain <- forecast_of(value)
  wild <- forecast_of(replace(value, 10, 1e6))
  expect_true(wild$history$anomaly[10])
  expect_equal(plain$metrics$n_left_out, 0L)
  expect_equal(wild$history$anomaly[-10], plain$history$anomaly[-10])
  expect_equal(wild$forecast$yhat, plain$forecast$yhat, tolerance = 0.05)
  expect_equal(wild$metrics$n_left_out, 1L)
  expect_match(wild$warnings, "2024-03-04", all = FALSE)
})

test_that("ordinary weeks are hardly ever taken for wild, enormous ones are, along any trend", {
  set.seed(15)
  for (n in c(12, 52)) {
    for (slope in 0:3) { # in sd of the noise a week
      ordinary <- lapply(1:400, function(i) slope * seq_len(n) + stats::rnorm(n))
      expect_lt(mean(vapply(ordinary, function(y) any(wild_weeks(y)), NA)), 0.04)
      found <- vapply(ordinary, function(y) {
        at <- sample(n, 1)
        identical(which(wild_weeks(replace(y, at, y[at] + 100))), at)
      }, NA)
      expect_gt(mean(found), 0.94)
    }
  }
})

test_that("a week is wild beyond six robust sd from the median of those around it, and not before", {
  set.seed(17)
  calm <- stats::rnorm(41)
  far <- replace(calm, 21, 1e3) # how far does not matter to medians
  slope <- stats::median(diff(far))
  around <- stats::median((far - slope * 1:41)[19:23]) + slope * 21
  limit <- around + 6 * stats::mad(diff(far)) / sqrt(2)
  expect_false(any(wild_weeks(replace(calm, 21, limit - 1e-6))))
  expect_equal(which(wild_weeks(replace(calm, 21, limit + 1e-6))), 21)
})

test_that("each week is judged by a fit that did not see it", {
  set.seed(5)
  value <- 0.3 + 0.02 * (1:16) + stats::rnorm(16, 0, 0.01)
  before <- forecast_of(value)
  i <- 4
  after <- forecast_of(replace(value, i, value[i] + 0.01))
  expect_equal(after$engine, before$engine)
  expect_equal(after$history$expected[i], before$history$expected[i], tolerance = 1e-6)
  neighbour <- abs(after$history$expected[i + 1] - before$history$expected[i + 1])
  expect_gt(neighbour, 1e-4)
})

test_that("where last year is the forecast, weeks are judged by it, and only those that have one", {
  set.seed(16)
  noise <- 0.02
  year <- stats::rnorm(52)
  for (n in c(64, 78, 104, 130)) {
    ordinary <- rep(year, 3)[seq_len(n)] + stats::rnorm(n, 0, noise)
    judge <- function(value) {
      series <- weeks_of(value)
      judge_weeks(series, rep(FALSE, n), engines[["seasonal-naive"]], 2.5)
    }
    quiet <- judge(ordinary)
    partner <- seq_len(n) > 52 | seq_len(n) <= n - 52
    expect_equal(is.na(quiet$weeks$score), !partner)
    expect_gt(quiet$residual_sd, noise * sqrt(2) / 2)
    expect_lt(quiet$residual_sd, noise * sqrt(2) * 2)
    expect_lt(mean(quiet$weeks$anomaly[partner]), 0.08)
    odd <- judge(replace(ordinary, 5, ordinary[5] + 20 * noise))$weeks
    expect_true(odd$anomaly[5])
    expect_lt(mean(odd$anomaly[-c(5, 57, 109)], na.rm = TRUE), 0.08)
    outside <- odd$value < odd$lower | odd$value > odd$upper
    expect_equal(odd$anomaly, outside)
  }
})

test_that("judged by last year, ordinary weeks are flagged at about the stated rate", {
  set.seed(18)
  stated <- 2 * stats::pnorm(-2.5)
  for (n in c(68, 104)) {
    flagged <- replicate(150, {
      weeks <- judge_weeks(weeks_of(stats::rnorm(n)), rep(FALSE, n), engines[["seasonal-naive"]], 2.5)$weeks
      mean(weeks$anomaly[!is.na(weeks$score)])
    })
    expect_lt(mean(flagged), stated + 3 * stats::sd(flagged) / sqrt(length(flagged)))
    expect_gt(mean(flagged), stated / 4)
  }
})

test_that("every week is left out once, and never together with those some years away", {
  left_out <- list()
  recorder <- list(expect = function(values, dates, at) {
    expect_identical(which(is.na(values)), at)
    left_out[[length(left_out) + 1]] <<- at
    list(expected = 0 * at, inflation = 1 + 0 * at)
  })
  for (n in c(8, 27, 28, 104, 1040)) {
    left_out <- list()
    leave_out(rep(1, n), as.Date("2024-01-01") + 7 * seq_len(n), recorder)
    expect_setequal(unlist(left_out), seq_len(n))
    expect_identical(lengths(left_out), tabulate((seq_len(n) - 1) %% min(n, most_folds) + 1))
    expect_false(any(vapply(left_out, function(at) any(duplicated(at %% season_weeks)), NA)))
  }
})

test_that("weeks far apart are judged, each by the others, and never all left out at once", {
  weeks <- data.frame(week_start = as.Date("2020-01-06") + 7 * 27 * (0:7), value = sin(1:8))
  fit <- fit_prophet(prophet_body(weeks))
  expect_true(all(is.finite(c(fit$history$expected, fit$forecast$lower, fit$forecast$upper))))
  for (n in c(8, 12, 27, 28, 38)) {
    known <- rep(c(TRUE, rep(FALSE, 26)), n) # all of one remainder
    expect_identical(tabulate(folds(known)[known]), rep(1L, n))
  }
})

test_that("weeks twenty years apart are refused by name", {
  weeks <- data.frame(week_start = as.Date("2020-01-06") + 7 * c(0:8, 1040), value = 1:10 / 10)
  expect_error(fit_prophet(prophet_body(weeks)), "within 1040 weeks", class = "seedplumber_invalid")
  weeks$week_start[10] <- weeks$week_start[10] - 7
  expect_true(is.finite(fit_prophet(prophet_body(weeks))$forecast$yhat[1]))
})

test_that("an enormous week without one a year away is found, and has no say in the others' intervals", {
  set.seed(19)
  value <- 10 + stats::rnorm(80)
  for (at in list(40, c(5, 57))) {
    series <- weeks_of(replace(value, at, 500))
    judged <- judge_weeks(series, seq_along(value) %in% at, engines[["seasonal-naive"]], 2.5)$weeks
    expect_true(all(judged$anomaly[at]))
    expect_lt(max(judged$upper[is.na(judged$score)]), 20)
  }
})

test_that("last year is tried only where enough weeks have one", {
  set.seed(20)
  for (known in list(c(1:10, 97:104), 85:104)) {
    fit <- forecast_of(replace(rep(NA_real_, 104), known, stats::rnorm(length(known))))
    expect_true(is.na(fit$metrics$mae_seasonal_naive))
    expect_false(fit$engine == "seasonal-naive")
    expect_true(all(is.finite(fit$forecast$yhat)))
  }
})

test_that("an anomaly is what lies outside the interval", {
  set.seed(6)
  history <- forecast_of(c(0.3 + stats::rnorm(30, 0, 0.02), 0.5))$history
  outside <- history$value < history$lower | history$value > history$upper
  expect_equal(history$anomaly, outside)
  expect_equal(history$anomaly, abs(history$score) > 2.5)
  expect_true(history$anomaly[31])
})

test_that("the largest threshold that is allowed still has an interval", {
  set.seed(6)
  ahead <- forecast_of(0.3 + stats::rnorm(30, 0, 0.02), anomaly_threshold = 10)$forecast
  expect_true(all(is.finite(c(ahead$lower, ahead$upper))))
})

# The judgement alone, with a straight line in place of Prophet: thousands of series in seconds.
line_engine <- list(expect = function(values, dates, at) {
  known <- which(!is.na(values))
  line <- stats::lm.fit(cbind(1, known), values[known])$coefficients
  list(expected = drop(cbind(1, at) %*% line), inflation = line_inflation(known, at))
})

test_that("normal weeks are flagged at most at the stated rate, with 8 to 104 weeks", {
  set.seed(7)
  stated <- 2 * stats::pnorm(-2.5)
  for (n in c(8, 12, 26, 104)) {
    flagged <- replicate(ceiling(12000 / n), {
      series <- weeks_of(stats::rnorm(n) + 0.1 * seq_len(n))
      mean(judge_weeks(series, wild_weeks(series$value), line_engine, 2.5)$weeks$anomaly)
    })
    allowance <- 3 * stats::sd(flagged) / sqrt(length(flagged))
    expect_lt(mean(flagged), stated + allowance)
    expect_gt(mean(flagged), stated / 4)
  }
})

test_that("of weeks far off at a random place most are found, from 8 weeks on, and all with 26", {
  set.seed(15)
  # share to be found, by weeks and by how many sd of the noise the week is off
  least <- list(c(8, 8, 0.6), c(8, 12, 0.92), c(8, 20, 0.98), c(12, 8, 0.92), c(26, 8, 0.98))
  for (case in least) {
    n <- case[1]
    found <- replicate(300, {
      at <- sample.int(n, 1)
      series <- weeks_of(stats::rnorm(n) + 0.1 * seq_len(n) + case[2] * (seq_len(n) == at))
      judge_weeks(series, wild_weeks(series$value), line_engine, 2.5)$weeks$anomaly[at]
    })
    expect_gt(mean(found), case[3])
  }
})

# Were coverage 60 %, either count would be below its limit with probability .98.
test_that("the forecast interval covers the week after, and the fourth, at the stated rate", {
  set.seed(8)
  level <- 0.8
  n <- 120
  inside <- replicate(n, {
    weeks <- weeks_of(0.3 + 0.002 * (1:28) + stats::rnorm(28, 0, 0.02))
    past <- weeks[1:24, ]
    judged <- judge_weeks(past, rep(FALSE, 24), line_engine, stats::qnorm((1 + level) / 2))
    ahead <- engines$prophet$ahead(past$value, past$week_start, 4L, 100L)
    abs(weeks$value[25:28] - ahead$yhat) <= forecast_half_width(ahead, judged)
  })
  limits <- stats::qbinom(c(0.005, 0.995), n, level)
  expect_gt(stats::pbinom(limits[1] - 1, n, 0.6), 0.98)
  for (covered in list(sum(inside[1, ]), sum(inside[4, ]))) {
    expect_gte(covered, limits[1])
    expect_lte(covered, limits[2])
  }
  narrow <- prophet_body(weeks_of(0.3 + stats::rnorm(24, 0, 0.02)), anomaly_threshold = 1)
  expect_equal(fit_prophet(narrow)$metrics$interval_level, 0.6827, tolerance = 1e-4)
})

test_that("a random walk is forecast by its last value, and that is said", {
  set.seed(9)
  value <- cumsum(stats::rnorm(40))
  fit <- forecast_of(value)
  expect_equal(fit$engine, "naive")
  expect_lte(fit$metrics$mae_naive, fit$metrics$mae_prophet)
  expect_equal(fit$forecast$yhat, rep(value[40], 4))
  expect_true(all(diff(fit$forecast$upper - fit$forecast$lower) > 0))
  expect_match(fit$warnings, "no better than a naive forecast", all = FALSE)
})

test_that("where too few weeks are there to compare, the last value is forecast, and that is said", {
  set.seed(16)
  value <- 0.2 + 0.01 * (1:11) + stats::rnorm(11, 0, 0.005)
  short <- forecast_of(value[1:10])
  expect_equal(short$engine, "naive")
  expect_equal(short$forecast$yhat, rep(value[10], 4))
  expect_match(short$warnings, "Too few weeks for Prophet to show", all = FALSE)
  long <- forecast_of(value)
  expect_equal(long$metrics$n_rolling_origins, 3L)
  expect_false(is.na(long$metrics$mae_prophet))
})

# Why eight weeks are forecast by their last value: 30 series each.
test_that("with eight weeks Prophet is further off than the last value, but for a steep line", {
  set.seed(17)
  further <- function(series) {
    off <- replicate(30, {
      weeks <- weeks_of(series())
      at <- 9:12
      vapply(engines[c("prophet", "naive")], function(engine) {
        expected <- engine$expect(replace(weeks$value, at, NA), weeks$week_start, at)$expected
        mean(abs(weeks$value[at] - expected))
      }, 0)
    })
    mean(off["prophet", ]) - mean(off["naive", ])
  }
  expect_gt(further(function() cumsum(stats::rnorm(12))), 0)
  expect_gt(further(function() as.numeric(stats::arima.sim(list(ar = 0.8), 12))), 0)
  expect_lt(further(function() stats::rnorm(12) + 0.8 * (1:12)), 0)
})

test_that("a strong yearly pattern is repeated from the year before", {
  set.seed(10)
  pattern <- cumsum(stats::rnorm(52))
  fit <- forecast_of(rep(pattern, 2) + stats::rnorm(104, 0, 0.01))
  expect_equal(fit$engine, "seasonal-naive")
  expect_equal(fit$forecast$yhat, pattern[1:4], tolerance = 0.1)
})

test_that("a constant metric is forecast as such, and its one other week is an anomaly", {
  fit <- forecast_of(rep(0.25, 12))
  expect_equal(fit$engine, "constant")
  expect_equal(fit$forecast$yhat, rep(0.25, 4))
  expect_false(any(fit$history$anomaly))
  odd <- forecast_of(replace(rep(0.25, 12), 5, 0.4))
  expect_equal(which(odd$history$anomaly), 5L)
})

test_that("gaps, given or left out, are bridged and not judged", {
  set.seed(11)
  value <- 0.3 + stats::rnorm(16, 0, 0.01)
  given <- weeks_of(replace(value, c(4, 5, 11), NA))
  fit <- fit_prophet(prophet_body(given))
  expect_true(all(is.na(fit$history$score[c(4, 5, 11)])))
  expect_false(any(fit$history$anomaly[c(4, 5, 11)]))
  expect_true(all(is.finite(fit$history$expected)))
  short <- fit_prophet(prophet_body(given[-c(4, 5, 11), ]))
  expect_equal(nrow(short$history), 13L)
  expect_equal(short$history$expected, fit$history$expected[-c(4, 5, 11)])
  expect_equal(short$warnings, fit$warnings)
  many <- fit_prophet(prophet_body(weeks_of(replace(stats::rnorm(20), 3:9, NA))))
  expect_match(many$warnings, "not judged: .* and 2 more[.]$", all = FALSE)
})

test_that("fewer than 8 weeks with a value are refused", {
  expect_error(forecast_of(stats::rnorm(7)), "needs 8", class = "seedplumber_unfittable")
  expect_error(forecast_of(c(stats::rnorm(7), NA, NA)), "7 weeks", class = "seedplumber_unfittable")
})

test_that("dates that are out of order, repeated, or no Mondays are refused by name", {
  weeks <- weeks_of(stats::rnorm(10))
  refused <- function(weeks, message) {
    expect_error(fit_prophet(prophet_body(weeks)), message, class = "seedplumber_invalid")
  }
  refused(weeks[c(1, 3, 2, 4:10), ], "week_start\\[2\\] must be later")
  refused(weeks[c(1, 2, 2, 3:10), ], "week_start\\[2\\] must be later")
  refused(transform(weeks, week_start = week_start + 1), "must be a Monday")
})

test_that("a seed decides the forecast, and whole weeks later it is the same", {
  set.seed(12)
  value <- 0.3 + 0.01 * (1:14) + stats::rnorm(14, 0, 0.005)
  expect_equal(forecast_of(value), forecast_of(value))
  set.seed(1)
  later <- fit_prophet(prophet_body(weeks_of(value, "2024-03-04")))
  expect_equal(later$forecast$yhat, forecast_of(value)$forecast$yhat, tolerance = 1e-6)
})

test_that("another unit gives the same scores", {
  set.seed(13)
  value <- 0.3 + 0.01 * (1:14) + stats::rnorm(14, 0, 0.01)
  expect_equal(forecast_of(1000 * value)$history$score, forecast_of(value)$history$score, tolerance = 0.05)
})
