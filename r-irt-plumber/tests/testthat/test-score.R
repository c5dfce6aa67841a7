simulated <- simulate_answers(500, 20, 12, seed = 16)
fit <- calibrate(simulated$responses)
score <- function(responses, items = fit$items[c("item_id", "a", "b")], population = list(mean = 0, sd = 1)) {
  score_irt(list(items = items, responses = responses, population = population))
}

test_that("scoring the calibrated answers gives the calibration's abilities", {
  expect_equal(score(simulated$responses)$abilities, fit$abilities, tolerance = 1e-10)
})

test_that("scoring on a linked scale needs only the calibration's population", {
  linked <- calibrate(simulated$responses, anchors = transform(simulated$items, b = b + 3)[1:8, ])
  scored <- score(simulated$responses, linked$items[c("item_id", "a", "b")], linked$population)
  expect_equal(scored$abilities, linked$abilities, tolerance = 1e-10)
})

test_that("a posterior mean is the integral that defines it", {
  one <- data.frame(user_id = "u", item_id = c("x", "y", "z"), correct = c(1L, 0L, 1L))
  items <- data.frame(item_id = c("x", "y", "z"), a = c(.8, 1.5, 2.5), b = c(-1, .3, 1))
  joint <- function(t) {
    answers <- stats::plogis(.8 * (t + 1)) * stats::plogis(-1.5 * (t - .3)) * stats::plogis(2.5 * (t - 1))
    stats::dnorm(t) * answers
  }
  moment <- function(f) stats::integrate(function(t) f(t) * joint(t), -10, 10, rel.tol = 1e-10)$value
  mean <- moment(identity) / moment(function(t) 1)
  sd <- sqrt(moment(function(t) (t - mean)^2) / moment(function(t) 1))
  ability <- score(one, items)$abilities
  expect_equal(ability$theta, mean, tolerance = 1e-7)
  expect_equal(ability$se, sd, tolerance = 1e-7)
})

test_that("a learner without an answer to a known item has the population's mean and sd", {
  scored <- score(
    data.frame(user_id = c("u00001", "new"), item_id = c("i001", "unknown"), correct = 1L),
    population = list(mean = .5, sd = 2)
  )
  new <- scored$abilities[scored$abilities$user_id == "new", ]
  expect_equal(c(new$theta, new$se, new$n_responses), c(.5, 2, 0), tolerance = 1e-6)
  expect_match(scored$warnings, "1 answers to 1 items without parameters")
})

test_that("an item or an answer given twice is refused", {
  items <- fit$items[c("item_id", "a", "b")]
  expect_error(score(simulated$responses, rbind(items, items[2, ])), "i002", class = "seedplumber_invalid")
  expect_error(score(simulated$responses[c(1, 1), ]), "one answer", class = "seedplumber_invalid")
})
