lung_visits <- function() {
  lung <- survival::lung
  visits_of(
    as.character(seq_len(nrow(lung))), 0L, lung$time, lung$status == 2,
    age = lung$age, sex = lung$sex, ph.ecog = lung$ph.ecog
  )
}

# Therneau & Grambsch, Modeling Survival Data (2000), and the example of survival::lung
test_that("lung has the published coefficients, likelihood and concordance", {
  fit <- fit_survival(survival_body(lung_visits(), c("age", "sex", "ph.ecog")))
  expect_equal(fit$coefficients$estimate, c(0.011067, -0.552612, 0.463728), tolerance = 1e-5)
  expect_equal(c(fit$n, fit$n_events), c(227, 164))
  expect_equal(unlist(fit$log_likelihood), c(null = -744.4805, model = -729.2301), tolerance = 1e-6)
  expect_equal(fit$concordance, 0.6371, tolerance = 1e-4)
  expect_match(fit$warnings[1], "1 visits lack a value of ph.ecog")
})

test_that("estimates, robust errors and the baseline are coxph's where visits tie and users repeat", {
  visits <- simulate_visits(60)
  visits$z <- rep(c(0, 1, 1), length.out = nrow(visits))
  fit <- fit_survival(survival_body(visits, c("x", "z")))
  peer <- survival::coxph(survival::Surv(gap_days, event) ~ x + z, visits, cluster = user_id, ties = "efron")
  expect_equal(fit$coefficients$estimate, unname(coef(peer)), tolerance = 1e-8)
  expect_equal(fit$coefficients$robust_se, unname(sqrt(diag(peer$var))), tolerance = 1e-8)
  expect_equal(fit$coefficients$se, unname(sqrt(diag(peer$naive.var))), tolerance = 1e-8)
  expect_equal(fit$hazard_ratios$upper, unname(summary(peer)$conf.int[, "upper .95"]), tolerance = 1e-6)

  user <- data.frame(x = 0.7, z = 1)
  curve <- survival::survfit(peer, newdata = user)
  at <- summary(curve, times = c(3, 14))$surv
  score <- data.frame(user_id = "a", days_away = 3, user)
  scored <- fit_survival(survival_body(visits, c("x", "z"), score = score))$scores
  expect_equal(scored$survival, 1 - at[2] / at[1], tolerance = 1e-6)
})

test_that("a known effect is recovered within three standard errors", {
  fit <- fit_survival(survival_body(simulate_visits(400, effect = 0.5), "x"))
  expect_lt(abs(fit$coefficients$estimate - 0.5), 3 * fit$coefficients$robust_se)
  expect_gt(min(fit$ph_test$p), 1e-4)
})

test_that("survival falls to 0 when the threshold is reached and stays a probability", {
  visits <- simulate_visits(60)
  score <- data.frame(user_id = letters[1:5], days_away = c(0, 5, 13, 14, 40), x = c(0, 0, 0, 0, NA))
  survival <- fit_survival(survival_body(visits, "x", score = score))$scores$survival
  expect_true(all(diff(survival) <= 0))
  expect_equal(survival[4:5], c(0, 0))
  expect_true(all(survival >= 0 & survival <= 1))
})

test_that("held-out predictions are calibrated and beat the base rate and the gap alone", {
  holdout <- fit_survival(survival_body(simulate_visits(500), "x"))$holdout
  expect_lt(holdout$brier, holdout$brier_gap_only)
  expect_lt(holdout$brier_gap_only, holdout$brier_base_rate)
  expect_gt(holdout$calibration_slope, 0.8)
  expect_lt(holdout$calibration_slope, 1.2)
  expect_equal(sum(holdout$bins$n), holdout$n)
})

test_that("the hold-out fit knows nothing of what came after its cutoff", {
  visits <- simulate_visits(100)
  known <- evaluate_holdout(visits, "x", 14, 28, 120)
  cutoff <- 120 - 28 - 14
  unseen <- visits
  unseen$x[visits$day > 120 - 14] <- 99 # after the last landmark
  expect_equal(evaluate_holdout(unseen, "x", 14, 28, 120), known)

  # Who was away at the cutoff now never comes back: what is observed changes, and no prediction does.
  gone <- visits
  away <- visits$day < cutoff & visits$day + visits$gap_days > cutoff
  gone$event[away] <- FALSE
  gone <- gone[gone$day < cutoff, ]
  before <- evaluate_holdout(visits[visits$day < cutoff, ], "x", 14, 0, cutoff + 14)
  after <- evaluate_holdout(gone, "x", 14, 0, cutoff + 14)
  expect_equal(after$bins$predicted, before$bins$predicted)
  expect_gt(before$base_rate, after$base_rate)
})

test_that("order of rows, names of users and a shift of days change nothing", {
  visits <- simulate_visits(80)
  plain <- fit_survival(survival_body(visits, "x"))
  set.seed(3)
  other <- visits[sample(nrow(visits)), ]
  other$user_id <- paste0("renamed-", other$user_id)
  other$day <- other$day + 700L
  moved <- fit_survival(survival_body(other, "x"))
  expect_equal(moved$coefficients, plain$coefficients, tolerance = 1e-9)
  expect_equal(moved$holdout, plain$holdout, tolerance = 1e-9)
})

test_that("a copy of every user leaves estimates and robust errors per user as they scale", {
  visits <- simulate_visits(60)
  copy <- transform(visits, user_id = paste0(user_id, "-copy"))
  once <- fit_survival(survival_body(visits, "x"))$coefficients
  twice <- fit_survival(survival_body(rbind(visits, copy), "x"))$coefficients
  expect_equal(twice$estimate, once$estimate, tolerance = 0.01) # Efron's ties are twice as many
  expect_equal(twice$robust_se * sqrt(2), once$robust_se, tolerance = 0.02)
})

test_that("useless covariates are dropped with their reason", {
  visits <- simulate_visits(40)
  n <- nrow(visits)
  visits <- transform(
    visits,
    flat = 3, again = x, tens = 10 * x + 1, none = NA_real_, other = rep(c(1, 2, 4), length.out = n)
  )
  visits$sum <- visits$x + visits$other
  covariates <- c("x", "flat", "again", "tens", "none", "other", "sum")
  fit <- fit_survival(survival_body(visits, covariates))
  expect_equal(fit$coefficients$term, c("x", "other"))
  reasons <- stats::setNames(fit$dropped$reason, fit$dropped$term)
  expect_equal(reasons[["flat"]], "constant")
  expect_equal(reasons[["again"]], "a copy of x")
  expect_equal(reasons[["tens"]], "a copy of x")
  expect_equal(reasons[["none"]], "every value is missing")
  expect_equal(reasons[["sum"]], "a linear combination of other covariates")
})

test_that("a covariate that is often missing gets a term for that", {
  visits <- simulate_visits(60)
  visits$accuracy <- replace(visits$x + 1, seq(1, nrow(visits), by = 4), NA)
  fit <- fit_survival(survival_body(visits, "accuracy"))
  expect_equal(fit$coefficients$term, c("accuracy", "accuracy_missing"))
  expect_equal(fit$n, nrow(visits))
})

test_that("missing in one visit of twenty it has that term, and below its rows are left out", {
  visits <- simulate_visits(60)[1:400, ]
  n_complete <- function(n_missing) {
    body <- survival_body(transform(visits, x = replace(x, seq_len(n_missing), NA)), "x")
    fit <- fit_survival(body)
    list(terms = fit$coefficients$term, n = fit$n)
  }
  expect_equal(n_complete(20), list(terms = c("x", "x_missing"), n = 400L))
  expect_equal(n_complete(19), list(terms = "x", n = 381L))
})

test_that("without covariates the model is the baseline alone", {
  visits <- simulate_visits(40)
  score <- data.frame(user_id = "a", days_away = 2)
  fit <- fit_survival(survival_body(visits, score = score))
  expect_equal(fit$coefficients$term, character())
  expect_equal(fit$ph_test$term, character())
  expect_equal(fit$concordance, 0.5)
  expect_gt(fit$scores$survival, 0.5)
})

test_that("separation is named and has no finite estimate", {
  visits <- simulate_visits(60)
  visits$told <- as.numeric(visits$event)
  fit <- fit_survival(survival_body(visits, c("x", "told")))
  expect_true(is.na(fit$hazard_ratios$hazard_ratio[2]))
  expect_false(is.na(fit$hazard_ratios$hazard_ratio[1]))
  expect_match(fit$warnings, "Separation: told", all = FALSE)
})

test_that("badly broken proportionality shows in the test", {
  set.seed(5)
  n <- 2000
  group <- rep(0:1, n / 2)
  gap <- ifelse(group == 1, stats::rweibull(n, 4, 10), stats::rweibull(n, 0.7, 10))
  visits <- visits_of(paste0("u", seq_len(n)), 0L, gap, TRUE, group = group)
  fit <- fit_survival(survival_body(visits, "group", as_of_day = 10000))
  expect_lt(fit$ph_test$p[fit$ph_test$term == "GLOBAL"], 1e-6)
  expect_match(fit$warnings, "nothing is censored", all = FALSE)
})

test_that("data without events, or of one user, are refused in words", {
  visits <- simulate_visits(20)
  expect_error(
    fit_survival(survival_body(transform(visits, event = FALSE), "x")), "no events",
    class = "seedplumber_unfittable"
  )
  expect_error(
    fit_survival(survival_body(transform(visits, user_id = "a"), "x")), "one user",
    class = "seedplumber_unfittable"
  )
})

test_that("few users and few events are said", {
  fit <- fit_survival(survival_body(simulate_visits(2, days = 40), "x"))
  expect_match(fit$warnings, "Only 2 users", all = FALSE)
})

test_that("ten events a term are enough, one less is said", {
  notes <- function(n_events) {
    visits <- visits_of(paste0("u", 1:30), 1L, 20, seq_len(30) <= n_events)
    visit_notes(visits, list(terms = c("x", "y")), 14)
  }
  expect_null(notes(20))
  expect_match(notes(19), "Only 19 events for 2 terms")
})

test_that("twenty users are enough for robust errors, nineteen are not", {
  notes <- function(n_users) fit_survival(survival_body(simulate_visits(n_users), "x"))$warnings
  expect_match(notes(19), "Only 19 users", all = FALSE)
  expect_false(any(grepl("users", notes(20))))
})

test_that("fields that contradict each other are refused by name", {
  visits <- simulate_visits(20)
  expect_error(
    fit_survival(survival_body(visits, "y")), "covariates[0] is not a column",
    fixed = TRUE, class = "seedplumber_invalid"
  )
  expect_error(fit_survival(survival_body(visits, c("x", "x"))), "named twice", class = "seedplumber_invalid")
  expect_error(fit_survival(survival_body(visits, "event")), "outcome", class = "seedplumber_invalid")
  expect_error(
    fit_survival(survival_body(visits, "x", as_of_day = 100)), "must end by as_of_day",
    class = "seedplumber_invalid"
  )
  score <- data.frame(user_id = "a", days_away = 1)
  expect_error(
    fit_survival(survival_body(visits, "x", score = score)), "score.x is required",
    class = "seedplumber_invalid"
  )
})

test_that("too short a past leaves no hold-out", {
  expect_null(fit_survival(survival_body(simulate_visits(40, days = 42), "x"))$holdout)
})

test_that("a tenfold value and a huge unit change little, an absurd value gives probabilities still", {
  visits <- simulate_visits(60)
  plain <- fit_survival(survival_body(visits, "x"))
  visits$x[1] <- 10 * visits$x[1]
  visits$y <- 1e9 + 1e3 * rev(visits$x)
  fit <- fit_survival(survival_body(visits, c("x", "y")))
  expect_lt(abs(fit$coefficients$estimate[1] - plain$coefficients$estimate), 3 * plain$coefficients$robust_se)
  expect_true(is.finite(fit$coefficients$estimate[2]))

  visits$x[1] <- 1e9
  score <- data.frame(user_id = c("a", "b", "c"), days_away = 1, x = c(0, 1e9, -1e9))
  survival <- fit_survival(survival_body(visits, "x", score = score))$scores$survival
  expect_true(all(survival >= 0 & survival <= 1))
})

test_that("a covariate whose squares vanish is dropped as constant", {
  visits <- simulate_visits(40)
  for (tiny in c(1e-161, 1e-300)) {
    visits$x <- tiny * rev(visits$x / max(abs(visits$x)))
    fit <- fit_survival(survival_body(visits, "x"))
    expect_equal(fit$dropped$reason, "constant")
  }
})

test_that("a term separates from a hazard ratio of 1,000 for one sd on, in any unit", {
  x <- cbind(a = c(-1, 0, 1), b = c(-1, 0, 1)) # sd 1
  for (unit in c(1, 1000)) {
    expect_identical(steep_terms(c(a = log(999), b = -log(1001)) / unit, x * unit), c(a = FALSE, b = TRUE))
  }
})

test_that("a term that does not vary in any risk set has no estimate and moves nobody", {
  visits <- data.frame(
    user_id = c("a", "a", "a", "b"), day = 0, gap_days = c(1, 2, 1, 2), event = c(FALSE, FALSE, FALSE, TRUE),
    x = c(NA, NA, 0, NA)
  )
  fit <- fit_survival(list(
    visits = visits, covariates = "x", threshold_days = 14, holdout_days = 28, as_of_day = 140,
    score = data.frame(user_id = c("c", "d"), days_away = 0, x = c(0, NA))
  ))
  expect_true(all(is.na(fit$coefficients$estimate)))
  expect_true(any(grepl("has no estimate", fit$warnings)))
  expect_length(fit$separated, 0L)
  expect_identical(fit$scores$survival[1], fit$scores$survival[2])
})
