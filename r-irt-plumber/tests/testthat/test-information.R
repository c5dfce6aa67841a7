# The analytic gradient and observed information against numerical derivatives of the log-likelihood itself.

numerical_hessian <- function(f, x, h = 1e-3) {
  n <- length(x)
  out <- matrix(0, n, n)
  for (i in 1:n) {
    for (j in i:n) {
      at <- function(si, sj) f(x + h * (si * (seq_len(n) == i) + sj * (seq_len(n) == j)))
      out[i, j] <- out[j, i] <- (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * h^2)
    }
  }
  out
}

simulated <- simulate_answers(150, 8, 5, seed = 1)
answers <- scored_responses(simulated$responses)
blocks <- response_blocks(answers, levels(answers$user_id), levels(answers$item_id), block_size = 64L)
grid <- ability_grid()

likelihood_of <- function(design) {
  function(parameters) e_step(blocks, expand(parameters, design), grid)$log_likelihood
}

# Away from the maximum, where the gradient is not zero.
parameters_of <- function(design) {
  set.seed(2)
  parameters <- stats::rnorm(design$n_parameters, .5, .3)
  replace(parameters, design$population, c(.2, 1.3)[seq_along(design$population)])
}

designs <- list(
  "2PL" = model_design(8, "2PL"), "1PL" = model_design(8, "1PL"),
  "2PL with held anchors" = model_design(8, "2PL", c(2L, 5L, 7L), a = c(.8, 1.2, 1), b = c(-1, 0, .5)),
  "1PL with held anchors" = model_design(8, "1PL", c(2L, 5L, 7L), a = c(.8, 1.2, 1), b = c(-1, 0, .5))
)

for (name in names(designs)) {
  design <- designs[[name]]
  parameters <- parameters_of(design)
  pass <- posterior_pass(blocks, expand(parameters, design), grid, precision = 0, joint_precision = 0)
  jacobian <- as.matrix(expand_jacobian(design))

  test_that(paste("the gradient is the likelihood's derivative:", name), {
    likelihood <- likelihood_of(design)
    numerical <- vapply(seq_along(parameters), function(i) {
      step <- 1e-5 * (seq_along(parameters) == i)
      (likelihood(parameters + step) - likelihood(parameters - step)) / 2e-5
    }, 0)
    expect_equal(as.vector(pass$gradient %*% jacobian), numerical, tolerance = 1e-5)
  })

  test_that(paste("the observed information is minus the likelihood's second derivative:", name), {
    analytic <- as.matrix(t(jacobian) %*% pass$information %*% jacobian)
    expect_equal(analytic, -numerical_hessian(likelihood_of(design), parameters), tolerance = 1e-4)
  })
}

for (name in c("LSAT6", "sparse answers with an item of little discrimination")) {
  test_that(paste("the default number of terms gives standard errors to a thousandth:", name), {
    responses <- if (name == "LSAT6") {
      lsat6()
    } else {
      b <- c(2, seq(-2, 2, length.out = 29))
      simulate_answers(600, 30, 12, seed = 2, a = c(.3, rep(1.2, 29)), b = b)$responses
    }
    fit <- calibrate(responses)
    answers <- scored_responses(responses)
    blocks <- response_blocks(answers, levels(answers$user_id), fit$items$item_id)
    design <- model_design(nrow(fit$items), "2PL")
    parameters <- c(fit$items$a, -fit$items$a * fit$items$b)
    se <- function(...) {
      pass <- posterior_pass(blocks, expand(parameters, design), grid, ...)
      covariance <- parameter_covariance(pass$information, parameters, design)
      items <- report_items(parameters, covariance, design, c(1, 0))
      c(items$se_a, items$se_b)
    }
    expect_lt(max(abs(se() / se(precision = 0, joint_precision = 0) - 1)), 1e-3)
  })
}

test_that("a prior's derivatives are those of its density on log a", {
  prior <- list(meanlog = .1, sdlog = .4)
  a <- c(.3, .9, 2.5)
  value <- function(a) stats::dnorm(log(a), prior$meanlog, prior$sdlog, log = TRUE)
  h <- 1e-4
  found <- slope_prior(a, prior)
  expect_equal(found$value, sum(value(a)))
  expect_equal(found$gradient, (value(a + h) - value(a - h)) / (2 * h), tolerance = 1e-5)
  expect_equal(found$curvature, (value(a + h) - 2 * value(a) + value(a - h)) / h^2, tolerance = 1e-4)
})

test_that("leaving out what items share makes standard errors a seventh too small at most", {
  answers <- scored_responses(simulate_answers(500, 60, 40, seed = 21)$responses)
  blocks <- response_blocks(answers, levels(answers$user_id), levels(answers$item_id))
  design <- model_design(60, "2PL")
  fit <- fit_em(blocks, design, grid, 1e-5, 200, start_parameters(blocks, design))
  se <- function(joint) {
    pass <- posterior_pass(blocks, expand(fit$parameters, design), grid, joint = joint)
    sqrt(Matrix::diag(parameter_covariance(pass$information, fit$parameters, design)))
  }
  ratio <- se(FALSE) / se(TRUE)
  expect_true(all(ratio < 1 + 1e-3))
  expect_gt(min(ratio), 6 / 7)
})

test_that("information that is not positive definite gives no covariance, dense or sparse", {
  design <- model_design(1, "2PL")
  information <- matrix(c(1, 2, 2, 1), 2)
  expect_null(parameter_covariance(information, c(1, 0), design))
  sparse <- Matrix::sparseMatrix(i = c(1, 2, 1, 2), j = c(1, 2, 2, 1), x = c(1, 1, 2, 2))
  expect_silent(found <- parameter_covariance(sparse, c(1, 0), design))
  expect_null(found)
  expect_null(parameter_covariance(matrix(1, 2, 2), c(1, 0), design))
})
