test_that("sleepstudy agrees with REML and with brms", {
  data <- sleepstudy()
  scale <- 200 # the priors are flat over what the data allow
  rows <- data.frame(user_id = as.character(data$Subject), week = data$Days / 9,
                     score = (data$Reaction - 300) / scale)
  fitted <- fit_rows(rows, n_samples = 4000, seed = 1)
  draws <- draws_frame(fitted$draws)
  intercept <- 300 + scale * draws$b_Intercept
  slope <- scale * draws$b_week / 9
  # REML, Bates et al., J Stat Softw 67 (2015) 1, section 1.2: 251.405, 10.467, residual 25.592
  expect_lt(abs(mean(intercept) - 251.405), 0.1 * stats::sd(intercept))
  expect_lt(abs(mean(slope) - 10.467), 0.1 * stats::sd(slope))
  expect_equal(stats::median(scale * draws$sigma), 25.592, tolerance = 0.02)
  # brms with its default priors: 251.30 (7.38), 10.426 (1.708), sigma 25.91
  expect_lt(abs(mean(intercept) - 251.30), 0.1 * 7.38)
  expect_lt(abs(mean(slope) - 10.426), 0.1 * 1.708)
  expect_equal(c(stats::sd(intercept), stats::sd(slope)), c(7.38, 1.708), tolerance = 0.05)
  expect_equal(mean(scale * draws$sigma), 25.91, tolerance = 0.01)
})

test_that("many students with missing weeks agree with nlme's REML", {
  rows <- simulated_rows(11, 2000, keep = 0.5)
  reml <- nlme::lme(score ~ week, random = ~ week | user_id, data = rows)
  variances <- nlme::VarCorr(reml)
  fitted <- fit_rows(rows, seed = 1)
  sd <- mean_of(fitted, "sd")
  expected <- c(nlme::fixef(reml), as.numeric(variances[1:2, "StdDev"]), as.numeric(variances[2, "Corr"]),
                reml$sigma)
  expect_lt(max(abs(mean_of(fitted) - expected) / sd), 0.15) # the priors weigh little against 2 000 students
})

test_that("known parameters are recovered, and every gate is met, with 500 students of 12 weeks", {
  fitted <- fit_rows(simulated_rows(12, 500, keep = 0.8), seed = 1)
  expect_lt(max(abs(mean_of(fitted) - typical[growth_parameters]) / mean_of(fitted, "sd")), 3)
  expect_lte(fitted$diagnostics$max_rhat, 1.01)
  expect_gte(min(fitted$diagnostics$min_ess_bulk, fitted$diagnostics$min_ess_tail), 400)
  expect_equal(fitted$diagnostics$divergent, 0)
  expect_equal(fitted$diagnostics$n_draws, 2000)
})

test_that("a fit is repeated by its seed to the last bit, and not by another", {
  rows <- simulated_rows(13, 30)
  expect_identical(fit_rows(rows, seed = 7)$draws, fit_rows(rows, seed = 7)$draws)
  expect_false(identical(fit_rows(rows, seed = 7)$draws, fit_rows(rows, seed = 8)$draws))
})

test_that("the order of rows and of patterns does not change a bit of a fit", {
  rows <- simulated_rows(16, 60, keep = 0.6)
  shuffled <- rows[sample(nrow(rows)), ]
  expect_identical(fit_rows(shuffled, seed = 7)$draws, fit_rows(rows, seed = 7)$draws)
})

test_that("a spread of nil is sampled well", {
  set.seed(14)
  rows <- simulate_growth(replace(typical, c("sd_Intercept", "sd_week"), 0), 200)$rows
  fitted <- fit_rows(rows, seed = 1)
  expect_lt(mean_of(fitted, "q95")[["sd_week"]], 0.3) # a student's own slope has a standard error of 0.5
  expect_lte(fitted$diagnostics$max_rhat, 1.01)
  expect_equal(fitted$diagnostics$divergent, 0)
})

test_that("one student ten times as far out moves the slope by less than a posterior sd", {
  rows <- simulated_rows(15, 300)
  far <- rows$user_id == rows$user_id[1]
  moved <- transform(rows, score = ifelse(far, 10 * score, score))
  expect_lt(abs(mean_of(fit_rows(moved))[["b_week"]] - mean_of(fit_rows(rows))[["b_week"]]),
            mean_of(fit_rows(rows), "sd")[["b_week"]])
})
