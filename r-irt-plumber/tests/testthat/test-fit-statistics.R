test_that("infit and outfit are 1 where the model holds", {
  fit <- calibrate(simulate_answers(2000, 30, 20, seed = 10)$responses)
  expect_lt(max(abs(fit$items$infit - 1)), .05)
  expect_lt(abs(mean(fit$items$outfit) - 1), .05)
})

test_that("a hard item with slips and guesses stands out by its outfit in the 1PL", {
  b <- c(seq(-2, 2, length.out = 29), 2.5)
  simulated <- simulate_answers(3000, 30, 20, seed = 11, a = rep(1.3, 30), b = b)
  set.seed(12)
  guessed <- with(simulated$responses, item_id == "i030" & correct == 0 & stats::runif(length(correct)) < .25)
  fit <- calibrate(transform(simulated$responses, correct = ifelse(guessed, 1L, correct)), "1PL")
  expect_equal(which.max(fit$items$outfit), 30)
  expect_gt(fit$items$outfit[30], 1.3)
})

test_that("two items that ask the same are flagged as dependent, and no others", {
  simulated <- simulate_answers(1500, 20, 20, seed = 13)
  twin <- subset(simulated$responses, item_id == "i007")
  set.seed(14)
  differs <- stats::runif(nrow(twin)) < .15
  twin <- transform(twin, item_id = "twin", correct = ifelse(differs, 1L - correct, correct))
  expect_equal(calibrate(simulated$responses)$fit$n_dependent_pairs, 0)
  fit <- calibrate(rbind(simulated$responses, twin))
  expect_setequal(unlist(fit$dependent_pairs[1, c("item_id_1", "item_id_2")]), c("i007", "twin"))
  expect_gt(fit$dependent_pairs$q3[1], .3)
})

test_that("Q3 is the correlation of residuals", {
  answers <- scored_responses(simulate_answers(200, 6, 6, seed = 15)$responses)
  blocks <- response_blocks(answers, levels(answers$user_id), levels(answers$item_id))
  items <- list(slope = rep(1, 6), intercept = rep(.2, 6))
  residual <- posterior_pass(blocks, items, ability_grid())$residual
  q3 <- stats::cor(as.matrix(residual))
  expect_equal(local_dependence(residual, levels(answers$item_id))$mean_q3, mean(q3[upper.tri(q3)]))
})
