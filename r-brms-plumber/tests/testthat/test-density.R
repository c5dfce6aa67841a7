# The log density of the Stan program, less the Jacobians of its own parameters.
stan_density <- function(rows) {
  statistics <- growth_patterns(rows)
  density_of(pattern_terms(statistics$patterns, statistics$sum_yy))
}

density_of <- function(terms) {
  fit <- unsampled(terms)
  function(theta, flip = c(1, 1)) {
    own <- list(b_Intercept = theta[["b_Intercept"]], b_week = theta[["b_week"]],
                u_Intercept = flip[1] * theta[["sd_Intercept"]], u_week = flip[2] * theta[["sd_week"]],
                z = prod(flip) * atanh(theta[["cor"]]), log_sigma = log(theta[["sigma"]]))
    rstan::log_prob(fit, rstan::unconstrain_pars(fit, own), adjust_transform = FALSE) -
      log(theta[["sigma"]]) - log1p(-theta[["cor"]]^2)
  }
}

expect_same_density <- function(rows, thetas, tolerance = 1e-9) {
  density <- stan_density(rows)
  reference <- log_posterior(thetas[[1]], rows) - density(thetas[[1]]) # constants that Stan drops
  for (theta in thetas) {
    expected <- log_posterior(theta, rows)
    expect_equal(density(theta) + reference, expected, tolerance = tolerance)
  }
}

some_thetas <- function() {
  set.seed(5)
  c(lapply(1:5, function(i) draw_prior()), list(typical, replace(typical, "cor", -0.99)))
}

test_that("the density is the multivariate normal's for complete designs", {
  expect_same_density(simulated_rows(1, 30, weeks = seq(-0.5, 0.5, length.out = 5)), some_thetas())
})

test_that("the density is the multivariate normal's with missing weeks and students of one week", {
  rows <- simulated_rows(2, 60, keep = 0.2)
  expect_true(all(1:4 %in% table(rows$user_id)))
  expect_same_density(rows, some_thetas())
})

test_that("the density is the multivariate normal's where a student has two scores of one week", {
  rows <- simulated_rows(3, 20, weeks = c(-0.5, 0.1, 0.5))
  twice <- data.frame(user_id = "twice", week = 0.25, score = c(0.3, 0.9))
  expect_same_density(rbind(rows, twice), some_thetas())
})

test_that("the density does not lose digits where noise is small beside the spread", {
  set.seed(4)
  quiet <- replace(typical, "sigma", 1e-3)
  rows <- simulate_growth(quiet, 20, weeks = seq(-0.5, 0.5, length.out = 6))$rows
  expect_same_density(rows, list(quiet, replace(quiet, "b_week", 0.6), replace(quiet, "sd_week", 0.4)), 1e-7)
})

test_that("the density is the same at the mirrored sds", {
  density <- stan_density(simulated_rows(6, 20))
  for (flip in list(c(-1, 1), c(1, -1), c(-1, -1))) expect_equal(density(typical, flip), density(typical))
})

test_that("the density of 50 000 students keeps the digits that the sampler needs", {
  # The same students 2 500 times: the likelihood is 2 500 times theirs, to less than a thousandth in all.
  rows <- simulated_rows(7, 20, weeks = seq(-0.5, 0.5, length.out = 12))
  statistics <- growth_patterns(rows)
  many <- statistics$patterns
  sums <- c("n_students", "c0", "c1", "q00", "q01", "q11")
  many[sums] <- many[sums] * 2500
  density <- density_of(pattern_terms(many, statistics$sum_yy * 2500))
  near <- replace(typical, "b_week", 0.501)
  likelihood <- function(theta) log_posterior(theta, rows) - log_posterior(theta, rows[0, ])
  expect_equal(density(near) - density(typical), 2500 * (likelihood(near) - likelihood(typical)) +
                 log_posterior(near, rows[0, ]) - log_posterior(typical, rows[0, ]), tolerance = 1e-5)
})
