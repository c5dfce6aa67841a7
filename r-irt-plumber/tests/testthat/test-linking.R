# 40 items known from before; a stronger, more varied cohort answers them.
cohort <- simulate_answers(3000, 40, 20, seed = 8, mean = .8, sd = 1.4)
anchors <- cohort$items[seq(1, 40, 4), ]

test_that("held anchors recover the scale, the population and the other items", {
  fit <- calibrate(cohort$responses, anchors = anchors, linking = "fixed")
  expect_true(fit$converged)
  expect_equal(fit$linking$method, "fixed")
  expect_equal(fit$linking$n_anchors, 10)
  expect_equal(unlist(fit$population), c(mean = .8, sd = 1.4), tolerance = .08)
  expect_equal(unname(fit$linking[c("intercept", "slope")]), unname(fit$population))
  held <- fit$items[fit$items$status == "anchor", ]
  expect_equal(unlist(held[c("a", "b")], use.names = FALSE), unlist(anchors[c("a", "b")], use.names = FALSE))
  expect_true(all(is.na(held$se_a) & is.na(held$se_b)))
  other <- merge(fit$items[fit$items$status == "fitted", ], cohort$items, by = "item_id")
  expect_lt(sqrt(mean((other$b.x - other$b.y)^2)), .12)
  expect_lt(sqrt(mean((other$a.x - other$a.y)^2)), .15)
  expect_gte(mean(abs(other$b.x - other$b.y) <= 2.6 * other$se_b), .95)
  theta <- cohort$theta[as.integer(substring(fit$abilities$user_id, 2))]
  expect_lt(abs(mean(fit$abilities$theta - theta)), .05)
})

test_that("standard errors carry the uncertainty of the scale: the delta method, by numerical derivatives", {
  design <- model_design(4, "2PL", c(2L, 4L), a = c(1, 1.2), b = c(-.5, .5))
  parameters <- c(.9, 1.4, .3, -.6, .2, 1.3)
  set.seed(20)
  covariance <- crossprod(matrix(stats::rnorm(60), 10)) / 1000
  reported <- function(parameters) {
    items <- report_items(parameters, covariance, design, scale = rev(parameters[design$population]))
    c(items$a, items$b)
  }
  jacobian <- vapply(seq_along(parameters), function(i) {
    step <- 1e-5 * (seq_along(parameters) == i)
    (reported(parameters + step) - reported(parameters - step)) / 2e-5
  }, numeric(4))
  items <- report_items(parameters, covariance, design, scale = rev(parameters[design$population]))
  by_hand <- sqrt(diag(jacobian %*% covariance %*% t(jacobian)))
  expect_equal(c(items$se_a, items$se_b), by_hand, tolerance = 1e-6)
})

test_that("mean-sigma recovers the scale", {
  fit <- calibrate(cohort$responses, anchors = anchors, linking = "mean-sigma")
  expect_equal(fit$linking$intercept, .8, tolerance = .1)
  expect_equal(fit$linking$slope, 1.4, tolerance = .1)
  expect_lt(fit$linking$rmse, .15)
  expect_lt(fit$linking$drift, .1)
  estimated <- fit$items$b[match(anchors$item_id, fit$items$item_id)]
  expect_equal(mean(estimated), mean(anchors$b))
  expect_equal(stats::sd(estimated), stats::sd(anchors$b))
  theta <- cohort$theta[as.integer(substring(fit$abilities$user_id, 2))]
  expect_lt(abs(mean(fit$abilities$theta - theta)), .06)
})

drift_of <- function(n_users, n_items, n_each, moved, seeds, n_anchors = n_items %/% 5) {
  vapply(seeds, function(seed) {
    few <- simulate_answers(n_users, n_items, n_each, seed)
    known <- few$items[seq_len(n_anchors), ]
    known$b <- known$b + stats::rnorm(n_anchors, 0, moved)
    fit <- calibrate(few$responses, anchors = known, prior_a = list(meanlog = 0, sdlog = .5))
    unlist(fit$linking[c("rmse", "drift")])
  }, c(rmse = 0, drift = 0))
}

test_that("few answers alone are no drift: it is rarely above the gate's .5 where rmse is often", {
  stayed <- drift_of(150, 200, 40, moved = 0, seeds = 1:30)
  expect_gt(mean(stayed["rmse", ] > .5), .1)
  expect_lt(mean(stayed["drift", ] > .5), .1)
})

test_that("the drift of moved anchors is the sd of their movement", {
  moved <- drift_of(1000, 100, 40, moved = .7, seeds = 1:6, n_anchors = 40)
  expect_equal(mean(moved["drift", ]), .7, tolerance = .1)
})

test_that("two anchors always fit a line unless their order is reversed", {
  few <- simulate_answers(400, 10, 10, seed = 1, a = rep(1, 10), b = seq(-1.5, 1.5, length.out = 10))
  drift_at <- function(b) {
    calibrate(few$responses, anchors = data.frame(item_id = c("i002", "i009"), a = 1, b = b))$linking$drift
  }
  expect_equal(drift_at(c(-2, .5)), 0)
  expect_gt(drift_at(c(1.2, -1.2)), 2)
})

test_that("an anchor that is hardly known does not hide that the others moved", {
  set.seed(3)
  moved <- stats::rnorm(8, 0, .8)
  expect_equal(drift(c(moved, 2, -1), c(rep(.15, 8), 2.6, 2)), drift(moved, rep(.15, 8)), tolerance = .2)
  expect_equal(drift(moved, rep(NA, 8)), sqrt(sum(moved^2) / 6))
  expect_equal(drift(numeric(4), numeric(4)), 0)
  # of equal errors, the moment estimator is the excess itself
  expect_equal(drift(moved, rep(.15, 8))^2, sum(moved^2) / 6 - .15^2, tolerance = 1e-6)
})

test_that("linking moves parameters, abilities and errors by one line and the likelihood not at all", {
  free <- calibrate(cohort$responses)
  linked <- calibrate(cohort$responses, anchors = anchors)
  slope <- linked$linking$slope
  intercept <- linked$linking$intercept
  expect_null(free$linking)
  expect_equal(linked$items$a, free$items$a / slope)
  expect_equal(linked$items$b, free$items$b * slope + intercept)
  expect_equal(linked$items$se_a, free$items$se_a / slope)
  expect_equal(linked$items$se_b, free$items$se_b * slope)
  expect_equal(linked$abilities$theta, free$abilities$theta * slope + intercept)
  expect_equal(linked$abilities$se, free$abilities$se * slope)
  expect_equal(linked$log_likelihood, free$log_likelihood)
})

test_that("anchors held at the free estimates give the free estimates back", {
  free <- calibrate(cohort$responses, tolerance = 1e-7)
  fit <- calibrate(
    cohort$responses, anchors = free$items[1:15, c("item_id", "a", "b")], linking = "fixed", tolerance = 1e-7
  )
  expect_equal(fit$items[c("a", "b")], free$items[c("a", "b")], tolerance = 1e-4)
  expect_equal(unlist(fit$population), c(mean = 0, sd = 1), tolerance = 1e-4)
  expect_equal(fit$log_likelihood, free$log_likelihood, tolerance = 1e-8)
})

test_that("the scale holds from run to run, also when the next cohort is abler", {
  first <- simulate_answers(3000, 40, 20, seed = 9, a = cohort$items$a, b = cohort$items$b)
  before <- calibrate(first$responses)
  after <- lapply(c("fixed", "mean-sigma"), function(linking) {
    calibrate(cohort$responses, anchors = before$items[c("item_id", "a", "b")][1:20, ], linking = linking)
  })
  unlinked <- calibrate(cohort$responses)
  drift <- function(fit) abs(mean(fit$items$b[21:40] - before$items$b[21:40]))
  expect_gt(drift(unlinked), .4)
  expect_lt(drift(after[[1]]), .06)
  expect_lt(drift(after[[2]]), .1)
})

test_that("with held anchors a prior is on a of their scale, whatever its unit and the learners' sd", {
  narrow <- simulate_answers(
    400, 40, 10, seed = 10, mean = .5, sd = .6, a = cohort$items$a, b = cohort$items$b
  )
  known <- narrow$items[seq(1, 40, 2), ]
  in_unit <- function(unit) {
    calibrate(
      narrow$responses, linking = "fixed", anchors = transform(known, a = a * unit, b = b / unit),
      prior_a = list(meanlog = log(unit), sdlog = .3), tolerance = 1e-6
    )
  }
  one <- in_unit(1)
  other <- in_unit(3)
  expect_true(one$converged && other$converged)
  expect_equal(other$items$a, 3 * one$items$a, tolerance = 1e-3)
  expect_equal(other$items$b, one$items$b / 3, tolerance = 1e-3)
  expect_equal(other$items$se_a, 3 * one$items$se_a, tolerance = 1e-3)
})

test_that("the estimates with held anchors and a prior solve the equations that they are to solve", {
  prior <- list(meanlog = .2, sdlog = .4)
  body <- list(model = "2PL", min_answers = 30, prior_a = prior, max_iterations = 500, tolerance = 1e-8)
  few <- simulate_answers(400, 20, 8, seed = 11, mean = .5, sd = .7)
  for (model in c("2PL", "1PL")) {
    body$model <- model
    fitted <- fit_fittable(scored_responses(few$responses), body, held = few$items[1:6, ])
    design <- fitted$design
    pass <- posterior_pass(fitted$blocks, expand(fitted$parameters, design), fitted$grid)
    gradient <- as.vector(pass$gradient %*% expand_jacobian(design))
    prior$meanlog <- .2 + log(fitted$parameters[design$population[2]])
    by_prior <- slope_prior(fitted$parameters[design$slopes], prior)$gradient
    expect_lt(max(abs(gradient[design$slopes] + by_prior)), .02)
    expect_lt(max(abs(gradient[-design$slopes])), .002)
  }
})

test_that("a uniform cohort, few answers, held anchors and the prior: the fit settles", {
  few <- simulate_answers(300, 120, 20, seed = 2, sd = .8)
  stays <- few$theta > stats::quantile(few$theta, 1 / 3)
  abler <- sprintf("u%05d", which(stays))
  fit <- calibrate(
    few$responses[few$responses$user_id %in% abler, ], anchors = few$items[1:20, ], linking = "fixed",
    min_answers = 15, prior_a = list(meanlog = 0, sdlog = .5)
  )
  expect_true(fit$converged)
  expect_equal(fit$population$sd, stats::sd(few$theta[stays]), tolerance = .25)
})

test_that("with a narrow prior on the scale of held anchors, a is known as well as the prior says", {
  few <- simulate_answers(400, 50, 10, seed = 12, sd = .7, a = rep(1, 50))
  for (model in c("2PL", "1PL")) {
    fit <- calibrate(
      few$responses, model, anchors = few$items[1:5, ], linking = "fixed",
      prior_a = list(meanlog = 0, sdlog = .01)
    )
    free <- fit$items[fit$items$status == "fitted", ]
    expect_equal(free$se_a / free$a, rep(.01, nrow(free)), tolerance = .05)
  }
})

test_that("with few held anchors and the prior, 95 % intervals cover", {
  covered <- vapply(1:16, function(seed) {
    few <- simulate_answers(400, 50, 10, seed = 300 + seed, mean = .3, sd = .8)
    fit <- calibrate(
      few$responses, anchors = few$items[1:5, ], linking = "fixed", prior_a = list(meanlog = 0, sdlog = .5)
    )
    found <- merge(fit$items[fit$items$status == "fitted", ], few$items, by = "item_id")
    inside <- function(x, truth, se) mean(abs(x - truth) < stats::qnorm(.975) * se)
    c(a = inside(found$a.x, found$a.y, found$se_a), b = inside(found$b.x, found$b.y, found$se_b))
  }, c(a = 0, b = 0))
  # errors of one fit have the scale's in common; the prior is wider than these a
  expect_true(all(rowMeans(covered) > .93))
  expect_true(all(rowMeans(covered) < .985))
})

test_that("held anchors are used whatever their number of answers", {
  rare <- cohort$responses[!(cohort$responses$item_id == "i001" & cohort$responses$user_id > "u00020"), ]
  fit <- calibrate(rare, anchors = anchors, linking = "fixed")
  expect_true("i001" %in% fit$items$item_id)
  expect_false("i001" %in% calibrate(rare, anchors = anchors)$items$item_id)
})

test_that("only held items: the population is estimated", {
  fit <- calibrate(cohort$responses, anchors = cohort$items, linking = "fixed")
  expect_equal(unlist(fit$population), c(mean = .8, sd = 1.4), tolerance = .06)
  expect_true(fit$converged)
  expect_equal(fit$n_parameters, 2)
})

test_that("held anchors that put the learners nowhere are refused on each side of each bound", {
  design <- model_design(3, "2PL", anchor = 1:3, a = rep(1, 3), b = -1:1)
  check <- function(mean, sd) check_population(c(mean, sd), design)
  within <- list(c(-10, 1), c(10, 1), c(0, .05), c(0, 20))
  beyond <- list(c(-10.01, 1), c(10.01, 1), c(0, .0499), c(0, 20.01))
  for (population in within) expect_null(check(population[1], population[2]))
  for (population in beyond) {
    expect_error(check(population[1], population[2]), "held anchors", class = "seedplumber_unfittable")
  }
})

test_that("one anchor cannot carry a scale", {
  for (linking in c("fixed", "mean-sigma")) {
    expect_error(
      calibrate(cohort$responses, anchors = anchors[1, ], linking = linking),
      "1 of the 1 anchors were answered",
      class = "seedplumber_unfittable"
    )
  }
  same <- transform(anchors, b = 0)
  expect_error(
    calibrate(cohort$responses, anchors = same), "differ in difficulty", class = "seedplumber_unfittable"
  )
  strangers <- transform(anchors, item_id = paste0("x", item_id))
  expect_error(
    calibrate(cohort$responses, anchors = strangers), "0 of the 10", class = "seedplumber_unfittable"
  )
})

test_that("no anchors are as none given", {
  expect_null(calibrate(cohort$responses, anchors = anchors[0, ])$linking)
})

test_that("an anchor given twice is refused", {
  twice <- rbind(anchors, anchors[3, ])
  expect_error(calibrate(cohort$responses, anchors = twice), "i009", class = "seedplumber_invalid")
})
