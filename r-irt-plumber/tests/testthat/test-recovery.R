# Known parameters from sparse answers: 800 learners answer 25 of 50 items each, twelve times.

truth_and_estimates <- do.call(rbind, lapply(1:12, function(seed) {
  simulated <- simulate_answers(800, 50, 25, seed)
  fit <- calibrate(simulated$responses)
  stopifnot(fit$converged)
  found <- merge(simulated$items, fit$items, by = "item_id", suffixes = c("_true", ""))
  ability <- simulated$theta[as.integer(substring(fit$abilities$user_id, 2))]
  found$theta_covered <- mean(abs(fit$abilities$theta - ability) <= stats::qnorm(.975) * fit$abilities$se)
  found$theta_correlation <- stats::cor(fit$abilities$theta, ability)
  found
}))

test_that("estimates are nearly unbiased", {
  with(truth_and_estimates, {
    expect_lt(abs(mean(a - a_true)), .03)
    expect_lt(abs(mean(b - b_true)), .02)
  })
})

test_that("errors are as large as the standard errors say", {
  with(truth_and_estimates, {
    expect_lt(abs(sqrt(mean(((a - a_true) / se_a)^2)) - 1), .1)
    expect_lt(abs(sqrt(mean(((b - b_true) / se_b)^2)) - 1), .1)
    expect_lt(sqrt(mean((a - a_true)^2)), .2)
    expect_lt(sqrt(mean((b - b_true)^2)), .2)
  })
})

test_that("95 % intervals cover the truth in 93 to 97 % of cases", {
  with(truth_and_estimates, {
    for (coverage in c(
      mean(abs(a - a_true) <= stats::qnorm(.975) * se_a), mean(abs(b - b_true) <= stats::qnorm(.975) * se_b),
      mean(theta_covered)
    )) {
      expect_gte(coverage, .93)
      expect_lte(coverage, .97)
    }
  })
})

test_that("of a 1PL, difficulties are nearly unbiased, and their intervals cover the truth", {
  found <- do.call(rbind, lapply(1:12, function(seed) {
    simulated <- simulate_answers(800, 50, 25, seed, a = rep(1, 50))
    fit <- calibrate(simulated$responses, "1PL")
    merge(simulated$items, fit$items, by = "item_id", suffixes = c("_true", ""))
  }))
  expect_lt(abs(mean(found$b - found$b_true)), .02)
  expect_lt(sqrt(mean((found$b - found$b_true)^2)), .15)
  coverage <- mean(abs(found$b - found$b_true) <= stats::qnorm(.975) * found$se_b)
  expect_gte(coverage, .93)
  expect_lte(coverage, .97)
})

test_that("abilities correlate with the truth as their reliability says", {
  fit <- calibrate(simulate_answers(800, 50, 25, seed = 1)$responses)
  expect_equal(truth_and_estimates$theta_correlation[1]^2, fit$fit$reliability, tolerance = .05)
})

test_that("learners who choose harder items by their ability do no harm", {
  # Missing at random: what is asked depends on earlier answers, which are in the data.
  set.seed(7)
  b <- sort(stats::rnorm(40))
  theta <- stats::rnorm(1500)
  first <- matrix(stats::runif(1500 * 20) < stats::plogis(outer(theta, b[seq(1, 40, 2)], `-`)), 1500)
  hard <- rowMeans(first) > .5
  rows <- lapply(1:1500, function(j) {
    asked <- c(seq(1, 40, 2), if (hard[j]) seq(22, 40, 2) else seq(2, 20, 2))
    data.frame(
      user_id = sprintf("u%04d", j), item_id = sprintf("i%02d", asked),
      correct = as.integer(c(first[j, ], stats::runif(10) < stats::plogis(theta[j] - b[asked[21:30]])))
    )
  })
  fit <- calibrate(do.call(rbind, rows), "1PL")
  expect_lt(sqrt(mean((fit$items$b - b)^2)), .12)
  expect_lt(abs(mean(fit$items$b - b)), .06)
})
