simulated <- simulate_answers(400, 20, 12, seed = 3)
reference <- calibrate(simulated$responses, tolerance = 1e-8)

test_that("the order of rows changes nothing at all", {
  set.seed(4)
  shuffled <- simulated$responses[sample(nrow(simulated$responses)), ]
  expect_identical(calibrate(shuffled, tolerance = 1e-8), reference)
})

test_that("other ids change nothing but the ids", {
  renamed <- simulated$responses
  user <- factor(renamed$user_id)
  renamed$user_id <- paste0("learner ", rev(levels(user))[user])
  new_item <- stats::setNames(rev(reference$items$item_id), reference$items$item_id)
  renamed$item_id <- paste0("question ", new_item[renamed$item_id])
  fit <- calibrate(renamed, tolerance = 1e-8)
  expect_equal(fit$log_likelihood, reference$log_likelihood, tolerance = 1e-10)
  numbers <- c("a", "b", "se_a", "se_b", "infit", "outfit")
  expect_equal(
    unlist(fit$items[20:1, numbers], use.names = FALSE), unlist(reference$items[numbers], use.names = FALSE),
    tolerance = 1e-5
  )
  expect_equal(rev(fit$abilities$theta), reference$abilities$theta, tolerance = 1e-5)
})

test_that("a copy of every learner leaves the estimates and divides their variance by two", {
  copy <- transform(simulated$responses, user_id = paste0("copy-", user_id))
  fit <- calibrate(rbind(simulated$responses, copy), tolerance = 1e-8)
  expect_equal(fit$items[c("a", "b")], reference$items[c("a", "b")], tolerance = 1e-5)
  expect_equal(fit$items$se_b * sqrt(2), reference$items$se_b, tolerance = 1e-5)
  expect_equal(fit$log_likelihood, 2 * reference$log_likelihood, tolerance = 1e-8)
})

test_that("right and wrong exchanged turn the scale round", {
  fit <- calibrate(transform(simulated$responses, correct = 1L - correct), tolerance = 1e-8)
  expect_equal(fit$items$a, reference$items$a, tolerance = 1e-5)
  expect_equal(fit$items$b, -reference$items$b, tolerance = 1e-5)
})

test_that("one learner less barely moves the estimates", {
  without <- subset(simulated$responses, user_id != "u00001")
  fit <- calibrate(without)
  expect_lt(max(abs(fit$items$b - reference$items$b) / reference$items$se_b), .5)
  expect_false("u00001" %in% fit$abilities$user_id)
})

test_that("the size of blocks changes nothing but rounding", {
  answers <- scored_responses(simulated$responses)
  items <- list(slope = reference$items$a, intercept = -reference$items$a * reference$items$b)
  passes <- lapply(c(50L, 4096L), function(size) {
    blocks <- response_blocks(answers, levels(answers$user_id), levels(answers$item_id), size)
    posterior_pass(blocks, items, ability_grid(), precision = 0, joint_precision = 0)
  })
  expect_equal(passes[[1]]$information, passes[[2]]$information, tolerance = 1e-8)
  expect_equal(passes[[1]]$theta, passes[[2]]$theta, tolerance = 1e-12)
})

test_that("SQUAREM ends where plain EM does", {
  answers <- scored_responses(lsat6())
  blocks <- response_blocks(answers, levels(answers$user_id), levels(answers$item_id))
  design <- model_design(5, "2PL")
  grid <- ability_grid()
  parameters <- start_parameters(blocks, design)
  for (i in 1:600) {
    parameters <- m_step(parameters, e_step(blocks, expand(parameters, design), grid), design, grid)
  }
  fast <- fit_em(blocks, design, grid, 1e-8, 500, start_parameters(blocks, design))
  expect_equal(fast$parameters, parameters, tolerance = 1e-4)
  expect_lt(fast$n_iterations, 60)
})
