compiled <- function(family) load_brms(family, service_dir)

# Noisy enough that brms' own sampling of coefficients mixes well.
set.seed(51)
rows <- simulate_growth(replace(typical, "sigma", 0.8), 40, weeks = seq(-0.5, 0.5, length.out = 6))$rows
gaussian <- fit_brms(rows, compiled("gaussian"), "gaussian", n_samples = 8000, seed = 2)
marginal <- fit_rows(rows, n_samples = 8000, seed = 1)

test_that("both engines have the same posterior", {
  expect_lte(gaussian$diagnostics$max_rhat, 1.01)
  expect_lt(max(abs(mean_of(gaussian) - mean_of(marginal)) / mean_of(marginal, "sd")), 0.1)
  expect_lt(farthest(mean_of(gaussian, "sd"), mean_of(marginal, "sd")), 0.05)
})

test_that("students' lines are those that brms samples", {
  # brms's own coefficients, without any code of ours: intercept at week 0, slope
  lines <- stats::coef(gaussian$fit)$student[, "Estimate", ]
  at <- function(week) predict_growth(draws_frame(marginal$draws), student_sums(rows), week, 0.9)
  start <- at(0)
  expect_equal(start$user_id, rownames(lines))
  expect_gt(stats::cor(start$mean, lines[, "Intercept"]), 0.999)
  expect_gt(stats::cor(at(1)$mean - start$mean, lines[, "week"]), 0.999)
})

test_that("students' chances are those of brms's own predictions", {
  students <- data.frame(week = 0.7, student = sort(unique(rows$user_id)))
  level <- brms::posterior_epred(gaussian$fit, newdata = students)
  chance <- colMeans(stats::pnorm((level - 0.9) / draws_frame(gaussian$draws)$sigma))
  shared <- predict_growth(draws_frame(marginal$draws), student_sums(rows), 0.7, 0.9)
  expect_lt(max(abs(shared$probability - chance)), 0.02)
})

test_that("a student's exact conditional prediction is that of the sampled coefficients", {
  students <- data.frame(week = 0.7, student = sort(unique(rows$user_id)))
  sampled <- brms::posterior_epred(gaussian$fit, newdata = students)
  exact <- predict_brms(gaussian, rows, "gaussian", 0.7, 0.9)
  sigma <- draws_frame(gaussian$draws)$sigma
  expect_gt(stats::cor(colMeans(sampled), exact$mean), 0.999)
  expect_lt(farthest(exact$sd, sqrt(apply(sampled, 2, stats::var) + mean(sigma^2))), 0.02)
  expect_lt(max(abs(exact$probability - colMeans(stats::pnorm((sampled - 0.9) / sigma)))), 0.02)
})

test_that("a brms fit is repeated by its seed", {
  fit <- function(seed) fit_brms(rows, compiled("gaussian"), "gaussian", 200, n_chains = 1, seed = seed)$draws
  expect_identical(fit(3), fit(3))
  expect_false(identical(fit(3), fit(4)))
})

test_that("family student is not moved by outliers that move the gaussian", {
  outliers <- rows
  picked <- seq(1, nrow(rows), by = 20) # 5 % of the scores
  outliers$score[picked] <- outliers$score[picked] + 10
  student <- fit_brms(outliers, compiled("student"), "student", n_samples = 1000, seed = 2)
  robust <- mean_of(student)
  moved <- mean_of(fit_rows(outliers))
  expect_lt(abs(robust[["b_Intercept"]] - mean_of(marginal)[["b_Intercept"]]), 0.2)
  expect_gt(abs(moved[["b_Intercept"]] - mean_of(marginal)[["b_Intercept"]]), 0.3)
  expect_lt(robust[["sigma"]], 1)
  expect_gt(moved[["sigma"]], 1.5)
  expect_lt(robust[["nu"]], 5)

  predicted <- predict_brms(student, outliers, "student", 0.7, 0.9)
  expect_equal(nrow(predicted), 40)
  set.seed(1)
  students <- data.frame(week = 0.7, student = predicted$user_id)
  simulated <- brms::posterior_predict(student$fit, newdata = students)
  expect_equal(predicted$probability, colMeans(simulated >= 0.9), tolerance = 0.05)
  middle <- apply(simulated, 2, stats::quantile, stats::pnorm(c(-1, 1)))
  expect_equal(predicted$sd, (middle[2, ] - middle[1, ]) / 2, tolerance = 0.1)
})
