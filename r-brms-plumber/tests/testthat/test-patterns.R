refused <- function(rows) {
  statistics <- growth_patterns(rows)
  tryCatch(check_patterns(statistics$patterns, statistics$sum_yy),
           seedplumber_unfittable = function(e) conditionMessage(e))
}
rows_of <- function(user_id, week, score) data.frame(user_id = user_id, week = week, score = score)

test_that("patterns are the sums over students of one design", {
  rows <- rows_of(c("a", "a", "b", "b", "c"), c(0, 1, 0, 1, 2), c(1, 2, 3, 5, 7))
  found <- growth_patterns(rows)
  expect_equal(found$sum_yy, 88)
  expect_equal(found$patterns, data.frame(
    n_students = c(2, 1), n = c(2, 1), sw = c(1, 2), sww = c(1, 4), c0 = c(3 + 8, 7), c1 = c(2 + 5, 14),
    q00 = c(9 + 64, 49), q01 = c(6 + 40, 98), q11 = c(4 + 25, 196)))
})

test_that("patterns are independent of the order of rows and of the names of users", {
  rows <- simulated_rows(1, 40, keep = 0.5)
  shuffled <- rows[sample(nrow(rows)), ]
  shuffled$user_id <- paste0("renamed-", shuffled$user_id)
  sorted <- function(x) x[do.call(order, round(x[c("n", "sw", "sww")], 9)), ]
  expect_equal(sorted(growth_patterns(shuffled)$patterns), sorted(growth_patterns(rows)$patterns),
               ignore_attr = TRUE)
})

test_that("weeks that were added up in another order are one design", {
  weeks <- seq(-0.5, 0.5, length.out = 12)
  rows <- rows_of(rep(c("a", "b"), each = 12), c(weeks, rev(weeks)), stats::rnorm(24))
  expect_equal(nrow(growth_patterns(rows)$patterns), 1)
})

test_that("the residual squares are those of a line through each student", {
  rows <- simulated_rows(2, 30, keep = 0.4)
  residuals <- lapply(split(rows, rows$user_id), function(x) stats::residuals(stats::lm(score ~ week, x)))
  statistics <- growth_patterns(rows)
  terms <- pattern_terms(statistics$patterns, statistics$sum_yy)
  expect_equal(terms$rss, sum(unlist(residuals)^2))
  expect_equal(terms$residual_df, sum(pmax(table(rows$user_id) - 2, 0)))
  expect_equal(terms$centre, unname(stats::coef(stats::lm(score ~ week, rows))))
})

test_that("one student is refused, two are not", {
  one <- rows_of("a", c(-0.5, 0, 0.5), c(0.1, 0.5, 0.3))
  expect_match(refused(one), "at least two students")
  expect_type(refused(rbind(one, rows_of("b", c(-0.5, 0, 0.5), c(0.2, 0.1, 0.6)))), "list")
})

test_that("one week is refused", {
  expect_match(refused(rows_of(rep(c("a", "b"), each = 3), 0.1, c(1, 2, 3, 2, 3, 5))), "one week")
})

test_that("a constant score is refused, also where rounding blurs it", {
  rows <- simulated_rows(1, 50)
  rows$score <- 0.1
  expect_match(refused(rows), "constant")
  rows$score <- rows$score * (1 + 1e-15 * seq_len(nrow(rows)) %% 2)
  expect_match(refused(rows), "constant")
})

test_that("students without a score more than a line takes are refused", {
  rows <- rows_of(rep(c("a", "b", "c"), each = 2), rep(c(0, 1), 3), c(0.1, 0.5, 0.3, 0.2, 0.9, 0.4))
  expect_match(refused(rows), "more scores than a line")
  expect_type(refused(rbind(rows, rows_of("c", 0.5, 0.1))), "list")
})

test_that("students exactly on lines are refused", {
  rows <- rows_of(rep(c("a", "b"), each = 4), rep(0:3, 2), c(0.1 * (0:3), 0.3 - 0.05 * (0:3)))
  expect_match(refused(rows), "exactly on a line")
})

test_that("sums that no students have are refused, with their position", {
  statistics <- growth_patterns(simulated_rows(1, 10))
  wrong <- statistics$patterns
  wrong$q00 <- wrong$c0^2 / wrong$n_students * 0.9
  expect_error(check_patterns(wrong, statistics$sum_yy), "Pattern 1 is no", class = "seedplumber_unfittable")
  wrong <- statistics$patterns
  wrong$sww <- wrong$sw^2 / wrong$n - 0.1
  expect_error(check_patterns(wrong, statistics$sum_yy), "Pattern 1 is no", class = "seedplumber_unfittable")
})

test_that("scores that are not scaled are warned of", {
  rows <- simulated_rows(1, 30)
  warned <- function(rows) {
    statistics <- growth_patterns(rows)
    scale_warnings(pattern_terms(statistics$patterns, statistics$sum_yy))
  }
  expect_length(warned(rows), 0)
  expect_match(warned(transform(rows, score = 60 + 10 * score)), "not on the scale")
  expect_match(warned(transform(rows, score = score / 50)), "not on the scale")
})
