add_item <- function(responses, item_id, correct, users = unique(responses$user_id)) {
  rbind(responses, data.frame(user_id = users, item_id = item_id, correct = rep_len(correct, length(users))))
}

base <- simulate_answers(300, 10, 8, seed = 5)$responses

test_that("items all right, all wrong or rarely answered are left out with a reason in words", {
  few <- sort(unique(base$user_id))[1:29]
  data <- add_item(add_item(add_item(base, "right", 1L), "wrong", 0L), "rare", 0:1, few)
  fit <- calibrate(data)
  expect_setequal(fit$excluded$item_id, c("right", "wrong", "rare"))
  reason <- stats::setNames(fit$excluded$reason, fit$excluded$item_id)
  expect_match(reason[["right"]], "all answers are right")
  expect_match(reason[["wrong"]], "all answers are wrong")
  expect_match(reason[["rare"]], "29 answers, fewer than the 30")
  expect_equal(fit$items, calibrate(base)$items, tolerance = 1e-6)
})

test_that("an item with as many answers as asked for is fitted", {
  data <- add_item(base, "rare", 0:1, sort(unique(base$user_id))[1:30])
  expect_false(any(grepl("fewer", calibrate(data)$excluded$reason)))
})

test_that("an item that abler learners get wrong is left out and the others are fitted without it", {
  ability <- calibrate(base)$abilities
  reversed <- as.integer(ability$theta < stats::rnorm(nrow(ability), 0, .5))
  fit <- calibrate(add_item(base, "reversed", reversed, ability$user_id))
  expect_identical(fit$excluded$item_id, "reversed")
  expect_match(fit$excluded$reason, "a = -[0-9.]+ is not above 0")
  expect_true(all(fit$items$a > 0))
  expect_equal(fit$items[c("a", "b")], calibrate(base)$items[c("a", "b")], tolerance = 1e-3)
})

test_that("an item that abler learners get wrong is named where a prior keeps its discrimination above 0", {
  ability <- calibrate(base)$abilities
  reversed <- as.integer(ability$theta < stats::rnorm(nrow(ability), 0, .5))
  prior <- list(meanlog = 0, sdlog = .5)
  fit <- calibrate(add_item(base, "reversed", reversed, ability$user_id), prior_a = prior)
  expect_gt(fit$items$a[fit$items$item_id == "reversed"], 0)
  expect_match(fit$warnings, "check their keys: reversed\\.", all = FALSE)
  expect_false(any(grepl("check their keys", calibrate(base, prior_a = prior)$warnings)))
})

test_that("an item whose discrimination runs away is left out, unless a prior holds it", {
  ability <- calibrate(base)$abilities
  step <- add_item(base, "step", as.integer(ability$theta > 0), ability$user_id)
  fit <- calibrate(step)
  expect_identical(fit$excluded$item_id, "step")
  expect_match(fit$excluded$reason, "no finite estimate")
  held <- calibrate(step, prior_a = list(meanlog = 0, sdlog = .5))
  expect_true(held$converged)
  expect_equal(nrow(held$excluded), 0)
})

test_that("a prior keeps every discrimination positive and pulls towards its median", {
  plain <- calibrate(base)
  tight <- calibrate(base, prior_a = list(meanlog = 0, sdlog = .01))
  expect_lt(max(abs(tight$items$a - 1)), .05)
  expect_true(all(tight$items$se_a < plain$items$se_a))
})

test_that("answers that measure nothing in common are refused by the 1PL", {
  set.seed(6)
  # Every learner has exactly half right: right answers go together less than by chance.
  users <- sprintf("u%03d", 1:200)
  rows <- do.call(rbind, lapply(users, function(user) {
    data.frame(user_id = user, item_id = sprintf("i%d", 1:6), correct = sample(rep(0:1, 3)))
  }))
  expect_error(calibrate(rows, "1PL"), "measure no common ability", class = "seedplumber_unfittable")
})

test_that("a second answer of a user to an item is refused, naming it", {
  expect_error(
    calibrate(rbind(base, base[5, ])), paste0("user ", base$user_id[5], ", item ", base$item_id[5]),
    class = "seedplumber_invalid"
  )
})

test_that("unscored answers are as if not there", {
  unscored <- data.frame(user_id = c("u00001", "nobody"), item_id = "unscored", correct = NA_integer_)
  expect_identical(calibrate(rbind(base, unscored)), calibrate(base))
})

test_that("without a scored answer there is nothing to fit", {
  expect_error(calibrate(transform(base, correct = NA)), "no scored answer", class = "seedplumber_unfittable")
})

test_that("one learner, one item and too few items are refused with the reason", {
  one_user <- subset(base, user_id == "u00001")
  expect_error(calibrate(one_user), "0 items can be calibrated", class = "seedplumber_unfittable")
  one_item <- subset(base, item_id == "i001")
  expect_error(calibrate(one_item), "1 items can be .*; the 2PL needs 3", class = "seedplumber_unfittable")
  two_items <- subset(base, item_id %in% c("i001", "i002"))
  expect_error(calibrate(two_items), "needs 3", class = "seedplumber_unfittable")
  expect_true(calibrate(two_items, "1PL")$converged)
})

test_that("learners with one answer each cannot tell items from abilities", {
  one_each <- base[!duplicated(base$user_id), ]
  expect_error(
    calibrate(one_each, min_answers = 5), "No learner answered 3", class = "seedplumber_unfittable"
  )
})

test_that("a small group of items without common learners is left out with a warning", {
  island <- transform(
    base[base$user_id <= "u00040", ], user_id = paste0("x", user_id), item_id = paste0("x", item_id)
  )
  fit <- calibrate(rbind(base, island), min_answers = 10)
  expect_equal(fit$components, 2)
  expect_match(fit$warnings, "2 groups that no learner connects: 10 items")
  expect_true(all(grepl("^x", fit$excluded$item_id)))
  expect_false(any(grepl("^x", fit$abilities$user_id)))
  expect_equal(fit$items, calibrate(base, min_answers = 10)$items)
})

test_that("two halves without common learners are refused", {
  other <- transform(base, user_id = paste0("x", user_id), item_id = paste0("x", item_id))
  expect_error(calibrate(rbind(base, other)), "2 groups .* 50 %", class = "seedplumber_unfittable")
})

test_that("two halves whose learners are said to be equally able are calibrated, with a warning", {
  other <- transform(base, user_id = paste0("x", user_id), item_id = paste0("x", item_id))
  fit <- calibrate(rbind(base, other), equal_groups = TRUE)
  expect_equal(fit$components, 2)
  expect_match(fit$warnings, "only if their learners are equally able")
  expect_equal(fit$items$b, rep(calibrate(base)$items$b, 2), tolerance = 1e-4)
})

test_that("one learner who answers both halves connects them", {
  other <- transform(base, user_id = paste0("x", user_id), item_id = paste0("x", item_id))
  bridge <- data.frame(user_id = "bridge", item_id = c("i001", "xi001"), correct = 0:1)
  expect_equal(calibrate(rbind(base, other, bridge))$components, 1)
})

test_that("too few iterations are reported, not hidden", {
  fit <- calibrate(base, max_iterations = 1)
  expect_false(fit$converged)
  expect_true(fit$determined)
})

test_that("learners with all answers right or all wrong have finite abilities", {
  data <- transform(base, correct = ifelse(user_id == "u00001", 1L, ifelse(user_id == "u00002", 0L, correct)))
  ability <- calibrate(data)$abilities
  expect_true(all(is.finite(ability$theta)) && all(ability$se > 0))
  theta <- stats::setNames(ability$theta, ability$user_id)
  expect_gt(theta[["u00001"]], 1)
  expect_lt(theta[["u00002"]], -1)
})

test_that("two thousand answers of one learner do not underflow", {
  many <- data.frame(
    user_id = rep(c("a", "b", "c"), each = 2000), item_id = rep(sprintf("i%04d", 1:2000), 3),
    correct = as.integer(c(rep(1, 2000), rep(0, 2000), rep(0:1, 1000)))
  )
  items <- data.frame(item_id = sprintf("i%04d", 1:2000), a = 1, b = 0)
  scored <- score_irt(list(items = items, responses = many, population = list(mean = 0, sd = 1)))$abilities
  expect_true(all(is.finite(scored$theta)))
  expect_gt(scored$theta[1], 4)
  expect_equal(scored$theta[3], 0, tolerance = .1)
})

test_that("a group of items is the main one from four fifths of the answers on", {
  found <- function(main) data.frame(n_responses = c(main, 1000 - main))
  expect_match(check_main_component(found(800), 3), "3 items \\(20.0 % of the answers\\) are left out")
  expect_error(check_main_component(found(799), 3), "the largest has 80 %", class = "seedplumber_unfittable")
})

test_that("discriminations are kept from .01 to below 10", {
  kept <- function(slopes) is.na(slope_faults(c(slopes, 0, 0), model_design(2, "2PL")))
  expect_equal(kept(c(.01, 10 - 1e-9)), c(TRUE, TRUE))
  expect_equal(kept(c(.01 - 1e-9, 10)), c(FALSE, FALSE))
  common <- function(slope) slope_faults(c(slope, 0, 0), model_design(2, "1PL"))
  expect_equal(common(.01), c(NA_character_, NA_character_))
  expect_error(common(.01 - 1e-9), "no common ability", class = "seedplumber_unfittable")
})

test_that("with more than a thousand items, what is left out is said", {
  notes <- function(n) fit_warnings(list(components = 1L, item_id = character(n)), FALSE)
  expect_null(notes(1000))
  expect_match(notes(1001), "more than 1000 items")
})

test_that("without a prior, answers that ability decides alone have no maximum, and are not called a fit", {
  decided <- data.frame(
    user_id = rep(c("u1", "u2", "u3"), each = 5), item_id = sprintf("i%d", 1:5), correct = 0L
  )
  decided$correct[decided$user_id == "u3" & decided$item_id %in% c("i3", "i4", "i5")] <- 1L
  fit <- calibrate(decided, model = "1PL", min_answers = 2, max_iterations = 40)
  expect_true(all(is.finite(fit$items$b) & is.finite(fit$items$outfit)))
  expect_false(fit$determined && fit$converged)
})

test_that("a prior and held anchors on which learners do not differ are refused before the sd is 0", {
  rows <- c("-1--0", "11011", "-1---", "01100", "011-0", "-1011", "-101-", "0-1--", "10000")
  answers <- do.call(rbind, strsplit(rows, ""))
  given <- which(answers != "-")
  few <- data.frame(
    user_id = sprintf("u%d", row(answers)[given]), item_id = sprintf("i%d", col(answers)[given]),
    correct = as.integer(answers[given])
  )
  anchors <- data.frame(item_id = c("i1", "i4"), a = c(1, 1.5), b = c(0, 1))
  expect_error(
    calibrate(few, model = "1PL", min_answers = 2, anchors = anchors, linking = "fixed", max_iterations = 40,
              prior_a = list(meanlog = 0, sdlog = .5)),
    class = "seedplumber_unfittable"
  )
})

test_that("held anchors that share no learner with the items that are calibrated are refused", {
  apart <- data.frame(
    user_id = sprintf("x%02d", 1:60), item_id = rep(c("x1", "x2"), each = 60), correct = 0:1
  )
  anchors <- data.frame(item_id = c("x1", "x2", "i003"), a = 1, b = c(-1, 1, 0))
  for (kept in list(1:2, c(1, 3))) {
    expect_error(
      calibrate(rbind(base, apart), anchors = anchors[kept, ], linking = "fixed"),
      "share learners with the other items", class = "seedplumber_unfittable"
    )
  }
})

test_that("pairs that everybody answered alike say nothing of dependence, and nothing else of the others", {
  with_pair <- simulate_answers(200, 6, 6, seed = 4)$responses
  both <- with_pair$item_id %in% c("i001", "i002")
  alone <- ifelse(as.integer(substring(with_pair$user_id, 2)) %% 2 == 0, "i001", "i002")
  apart <- with_pair[!both | with_pair$item_id == alone, ]
  for (n in 30:37) {
    alike <- expand.grid(user_id = sprintf("v%02d", 1:n), item_id = c("i001", "i002"), correct = 1L)
    fit <- calibrate(rbind(apart, alike), model = "1PL")
    expect_equal(fit$fit$n_pairs, choose(6, 2) - 1)
    expect_lt(abs(fit$fit$mean_q3), .5)
  }
  opposite <- data.frame(
    user_id = rep(sprintf("u%02d", 1:60), 2), item_id = rep(c("i1", "i2"), each = 60),
    correct = c(rep(0:1, 30), rep(1:0, 30))
  )
  fit <- calibrate(opposite, model = "1PL", prior_a = list(meanlog = 0, sdlog = .5))
  expect_equal(fit$fit$mean_q3, -1)
  expect_identical(fit$fit$n_dependent_pairs, 0L)
})

test_that("an sd of ability that is 0 after the rough fit already is refused", {
  few <- data.frame(
    user_id = paste0("u", c(1, 2, 3, 5, 6, 7, 1, 2, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7)),
    item_id = rep(c("i1", "i2", "i3"), each = 6),
    correct = c(1L, 1L, 0L, 1L, 1L, 1L, 0L, 1L, 1L, 1L, 0L, 1L, 0L, 1L, 1L, 0L, 1L, 0L)
  )
  anchors <- data.frame(item_id = c("i1", "i2"), a = c(8.6, .6), b = c(2.7, -4.1))
  expect_error(
    calibrate(few, min_answers = 2, anchors = anchors, linking = "fixed",
              prior_a = list(meanlog = -.3, sdlog = .1)),
    class = "seedplumber_unfittable"
  )
})
