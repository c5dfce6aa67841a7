some_draws <- function(n = 300) {
  set.seed(21)
  one <- function() replace(typical * stats::runif(6, 0.8, 1.2), "cor", stats::runif(1, -0.9, 0.9))
  as.data.frame(t(replicate(n, one())))
}

# By the definition: the score at x and the student's own scores are jointly normal given the parameters.
predict_slowly <- function(draws, rows, x, goal) {
  given <- vapply(seq_len(nrow(draws)), function(m) {
    theta <- unlist(draws[m, ])
    cov <- theta[["cor"]] * theta[["sd_Intercept"]] * theta[["sd_week"]]
    spread <- matrix(c(theta[["sd_Intercept"]]^2, cov, cov, theta[["sd_week"]]^2), 2)
    design <- rbind(cbind(rep(1, nrow(rows)), rows$week), c(1, x))
    variance <- diag(theta[["sigma"]]^2, nrow(design)) + design %*% spread %*% t(design)
    own <- seq_len(nrow(rows))
    new <- nrow(design)
    level <- drop(design %*% theta[c("b_Intercept", "b_week")])
    gain <- if (length(own)) variance[new, own] %*% solve(variance[own, own]) else matrix(0, 1, 0)
    c(level[new] + gain %*% (rows$score - level[own]), variance[new, new] - gain %*% variance[own, new])
  }, c(0, 0))
  c(mean = mean(given[1, ]), sd = sqrt(mean(given[2, ]) + mean((given[1, ] - mean(given[1, ]))^2)),
    probability = mean(stats::pnorm((given[1, ] - goal) / sqrt(given[2, ]))))
}

expect_predicted_slowly <- function(rows, draws = some_draws(), at = c(0.7, 1.2), goal = 0.9) {
  found <- predict_growth(draws, student_sums(rows), at, goal)
  for (x in at) {
    for (user in unique(rows$user_id)) {
      expected <- predict_slowly(draws, rows[rows$user_id == user, ], x, goal)
      row <- found[found$user_id == user & found$at == x, c("mean", "sd", "probability")]
      expect_equal(unlist(row), expected, tolerance = 1e-9)
    }
  }
}

test_that("predictions are the conditional normal's, averaged over the draws", {
  expect_predicted_slowly(simulated_rows(22, 8, keep = 0.6))
})

test_that("students of one week, and of several scores in one week, are predicted", {
  rows <- data.frame(user_id = c("a", "b", "b"), week = c(0.1, 0.3, 0.3), score = c(1, -0.2, 0.8))
  expect_predicted_slowly(rows)
})

test_that("draws without spread, or with perfect correlation, are predicted", {
  draws <- some_draws()
  draws$sd_week[1:100] <- 0
  draws$sd_Intercept[50:150] <- 0
  draws$cor[200:220] <- 1
  expect_predicted_slowly(simulated_rows(23, 4, keep = 0.5), draws)
})

test_that("a student never seen gets the population's prediction", {
  draws <- some_draws()
  unseen <- data.frame(user_id = "new", n = 0, sw = 0, sww = 0, sy = 0, swy = 0)
  found <- predict_growth(draws, unseen, 0.7, 0.9)
  expected <- predict_slowly(draws, data.frame(week = numeric(), score = numeric()), 0.7, 0.9)
  expect_equal(unlist(found[c("mean", "sd", "probability")]), expected, tolerance = 1e-9)
})

test_that("predictions agree with brute-force draws of coefficients and noise", {
  draws <- some_draws(2000)
  student <- simulated_rows(24, 1, keep = 0.5)
  found <- predict_growth(draws, student_sums(student), 0.7, 0.9)
  set.seed(25)
  simulated <- unlist(lapply(seq_len(nrow(draws)), function(m) {
    theta <- draws[m, ]
    cov <- theta$cor * theta$sd_Intercept * theta$sd_week
    design <- cbind(1, student$week)
    spread <- matrix(c(theta$sd_Intercept^2, cov, cov, theta$sd_week^2), 2)
    precision <- solve(spread) + crossprod(design) / theta$sigma^2
    beta <- c(theta$b_Intercept, theta$b_week)
    mean <- beta + solve(precision, crossprod(design, student$score - design %*% beta) / theta$sigma^2)
    coefficients <- drop(mean) + backsolve(chol(precision), matrix(stats::rnorm(2 * 100), 2))
    drop(c(1, 0.7) %*% coefficients) + theta$sigma * stats::rnorm(100)
  }))
  expect_equal(found$mean, mean(simulated), tolerance = 0.01)
  expect_equal(found$sd, stats::sd(simulated), tolerance = 0.01)
  expect_equal(found$probability, mean(simulated >= 0.9), tolerance = 0.02)
})

test_that("a design of more students than fit in a block is predicted as one by one", {
  rows <- simulated_rows(26, students_at_once + 3, weeks = c(-0.5, 0, 0.5))
  draws <- some_draws(50)
  students <- student_sums(rows)
  together <- predict_growth(draws, students, 0.7, 0.9)
  last <- nrow(students)
  alone <- predict_growth(draws, students[last, ], 0.7, 0.9)
  expect_equal(unlist(together[last, -1]), unlist(alone[, -1]))
  expect_equal(together$user_id, students$user_id)
})

test_that("half of new scores exceed a goal at the predicted mean, and P falls with the goal", {
  students <- student_sums(simulated_rows(27, 20))
  draws <- some_draws()
  at_mean <- predict_growth(draws, students[1, ], 0.7, 0)$mean
  expect_equal(predict_growth(draws, students[1, ], 0.7, at_mean)$probability, 0.5, tolerance = 0.02)
  goals <- c(-5, 0, 0.5, 5)
  reached <- function(goal) predict_growth(draws, students[1, ], 0.7, goal)$probability
  probabilities <- vapply(goals, reached, 0)
  expect_false(is.unsorted(rev(probabilities), strictly = TRUE))
})

test_that("50 000 students are predicted in flat memory", {
  students <- data.frame(user_id = sprintf("s%05d", 1:50000), n = 2, sw = 1, sww = 1,
                         sy = stats::rnorm(50000), swy = 0.1)
  # In a process of its own: what other tests have left behind lets R collect its garbage later.
  measured <- callr::r(function(service_dir, draws, students) {
    models <- seedplumber::load_service(service_dir)$models
    gc(reset = TRUE)
    before <- sum(gc()[, 2])
    found <- models$predict_growth(draws, students, 0.7, 0.9)
    list(rows = nrow(found), peak = sum(gc()[, 6]) - before)
  }, list(service_dir, some_draws(500), students))
  expect_equal(measured$rows, 50000)
  expect_lt(measured$peak, 100) # MB; all students by all draws would be 200 for one matrix
})

test_that("sums that no rows have, and students sent twice, are refused", {
  students <- student_sums(simulated_rows(28, 3))
  refuse <- function(students) predict_growth(some_draws(5), students, 0.7, 0.9)
  expect_error(refuse(students[c(1, 2, 1), ]), "s00001 appears twice", class = "seedplumber_unfittable")
  expect_error(refuse(transform(students, sww = 0)), "of no rows", class = "seedplumber_unfittable")
  expect_error(refuse(transform(students, n = 0)), "of no rows", class = "seedplumber_unfittable")
})
