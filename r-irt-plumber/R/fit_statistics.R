# Does the model hold? Item by item, and pair by pair.

#' Mean-square residuals of each item, expected over the learners' posteriors, so that both are 1 on average
#' where the model holds (Wright & Masters 1982; expected over the posterior as in Wu 1997). `outfit` weighs
#' every answer alike and shows guesses and slips far from the item's difficulty; `infit` weighs by
#' information.
#' @param n,correct items x nodes: expected answers and right answers.
#' @return data frame: `infit`, `outfit` (>= 0).
item_fit <- function(n, correct, items, grid) {
  # Beyond, `wrong` would be 0, and what rounding leaves of n - correct weigh more than answers do.
  log_odds <- pmax(pmin(outer(items$slope, grid$z) + items$intercept, 30), -30)
  right <- stats::plogis(log_odds)
  wrong <- stats::plogis(-log_odds)
  data.frame(
    infit = rowSums(correct * wrong^2 + (n - correct) * right^2) / rowSums(n * right * wrong),
    outfit = rowSums(correct * wrong / right + (n - correct) * right / wrong) / rowSums(n)
  )
}

#' Local dependence by Yen's (1984) Q3: the correlation of two items' residuals over learners who answered
#' both.
#'
#' Q3 is centred at its mean over pairs (Christensen, Makransky & Horton 2017), and a pair is flagged where
#' Fisher's z exceeds the Bonferroni bound over all pairs at level .05, so that noise in rarely shared pairs
#' flags nothing.
#' @param residual sparse users x items; @param min_shared learners that a pair needs to be looked at.
#' @return list: `n_pairs` looked at, `mean_q3`, `n_flagged`, and `pairs` (at most ten, strongest first): data
#'   frame of `item_id_1`, `item_id_2`, `q3` (as estimated), `n_users`.
local_dependence <- function(residual, item_id, min_shared = 30L) {
  none <- list(
    n_pairs = 0L, mean_q3 = NA_real_, n_flagged = 0L,
    pairs = data.frame(item_id_1 = character(), item_id_2 = character(), q3 = numeric(), n_users = integer())
  )
  if (length(item_id) > max_joint_items) {
    return(none)
  }
  answered <- replace_values(residual, rep(1, length(residual@x)))
  squared <- replace_values(residual, residual@x^2)
  n <- as.matrix(Matrix::crossprod(answered))
  pair <- which(upper.tri(n) & n >= min_shared, arr.ind = TRUE)
  if (nrow(pair) == 0) {
    return(none)
  }
  other <- pair[, 2:1, drop = FALSE]
  n <- n[pair]
  sum_product <- as.matrix(Matrix::crossprod(residual))[pair]
  sums <- as.matrix(Matrix::crossprod(residual, answered))
  sums_squared <- as.matrix(Matrix::crossprod(squared, answered))
  variation <- function(at) sums_squared[at] - sums[at]^2 / n
  # Beyond what rounding leaves of it where all who answered both answered one of them alike.
  varies <- variation(pair) > 1e-9 * sums_squared[pair] & variation(other) > 1e-9 * sums_squared[other]
  if (!any(varies)) {
    return(none)
  }
  covariation <- sum_product - sums[pair] * sums[other] / n
  q3 <- covariation[varies] / sqrt((variation(pair) * variation(other))[varies])
  q3 <- pmin(pmax(q3, -1), 1)
  pair <- pair[varies, , drop = FALSE]
  n <- n[varies]
  z <- function(r) atanh(r * (1 - 1e-12))
  fisher_z <- (z(q3) - z(mean(q3))) * sqrt(n - 3)
  flagged <- abs(fisher_z) > stats::qnorm(1 - .05 / (2 * length(q3)))
  strongest <- utils::head(order(-abs(fisher_z) * flagged), min(10L, sum(flagged)))
  list(
    n_pairs = length(q3), mean_q3 = mean(q3), n_flagged = sum(flagged),
    pairs = data.frame(
      item_id_1 = item_id[pair[strongest, 1]], item_id_2 = item_id[pair[strongest, 2]],
      q3 = q3[strongest], n_users = n[strongest]
    )
  )
}
