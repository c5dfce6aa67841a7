sleepstudy_scale <- 200 # ms: the priors are then flat over what the data allow

sleepstudy_draws <- local({
  data <- sleepstudy()
  rows <- data.frame(user_id = as.character(data$Subject), week = data$Days / 9,
                     score = (data$Reaction - 300) / sleepstudy_scale)
  draws <- draws_frame(fit_rows(rows, n_samples = 4000, seed = 1)$draws)
  ms <- sleepstudy_scale
  with(draws, data.frame(intercept = 300 + ms * b_Intercept, slope = ms * b_week / 9,
                         sd_intercept = ms * sd_Intercept, sd_slope = ms * sd_week / 9, cor = cor,
                         sigma = ms * sigma))
})

# Bates, Maechler, Bolker & Walker, J Stat Softw 67 (2015) 1: summary(lmer(Reaction ~ Days + (Days | Subject),
# sleepstudy)), in ms.
sleepstudy_reml <- c(intercept = 251.405, slope = 10.467, sd_intercept = 24.74, sd_slope = 5.92, cor = 0.07,
                     sigma = 25.592)

test_that("the published REML fit of sleepstudy is nlme's, too", {
  reml <- nlme::lme(Reaction ~ Days, random = ~ Days | Subject, data = sleepstudy())
  variances <- nlme::VarCorr(reml)
  found <- c(nlme::fixef(reml), as.numeric(variances[1:2, "StdDev"]), as.numeric(variances[2, "Corr"]),
             reml$sigma)
  expect_lt(max(abs(found - sleepstudy_reml)), 6e-3) # what two printed decimals leave
})

test_that("sleepstudy's population mean is REML's", {
  for (name in c("intercept", "slope")) {
    draws <- sleepstudy_draws[[name]]
    expect_lt(abs(mean(draws) - sleepstudy_reml[[name]]), 0.1 * stats::sd(draws))
  }
})

test_that("sleepstudy's residual sd is REML's", {
  expect_lt(farthest(stats::median(sleepstudy_draws$sigma), sleepstudy_reml[["sigma"]]), 0.02)
})

test_that("sleepstudy's sds of subjects have REML's in the middle half of their posterior", {
  # REML is the highest point of what is a skew posterior with 18 subjects; with 2,000 the two agree (below).
  for (name in c("sd_intercept", "sd_slope", "cor")) {
    below <- mean(sleepstudy_draws[[name]] < sleepstudy_reml[[name]])
    expect_gt(below, 0.25)
    expect_lt(below, 0.75)
  }
})

# brms with its default priors, brm(Reaction ~ Days + (Days | Subject), sleepstudy): of a run, not of a
# publication.
sleepstudy_brms <- list(mean = c(intercept = 251.30, slope = 10.426, sigma = 25.91),
                        sd = c(intercept = 7.38, slope = 1.708))

test_that("sleepstudy's posterior is brms's", {
  means <- colMeans(sleepstudy_draws[c("intercept", "slope")])
  expect_lt(max(abs(means - sleepstudy_brms$mean[1:2]) / sleepstudy_brms$sd), 0.1)
  sds <- vapply(sleepstudy_draws[c("intercept", "slope")], stats::sd, 0)
  expect_lt(farthest(sds, sleepstudy_brms$sd), 0.05)
  expect_lt(farthest(mean(sleepstudy_draws$sigma), sleepstudy_brms$mean[["sigma"]]), 0.01)
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
