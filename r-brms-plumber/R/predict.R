# Posterior predictive distribution of a student's next score.

students_at_once <- 500L # times the draws: 8 MB a matrix at 2 000 draws

#' Predict a new score of each student at given weeks.
#'
#' Given the six parameters, a student's coefficients are normal with covariance
#' V = (Sigma^-1 + A / sigma^2)^-1 and mean beta + V (c - A beta) / sigma^2 (Lindley & Smith, JRSS B 34
#' (1972) 1-41), so the score at week x is normal too. The draws of the parameters mix these normals: the
#' mean and sd are the mixture's, exactly, and the probability is the average of the normal tails. V depends
#' on the design alone and is shared by the students of one.
#' @param draws data frame of growth_parameters, a row a draw.
#' @param students data frame: user_id, n, sw, sww, sy, swy (sums over the student's own rows; n = 0: a
#'   student never seen).
#' @param at weeks, goal: a score, both on the scale of the fit.
#' @return data frame, a row a student and week: user_id, at, mean, sd (of a new score: noise included),
#'   probability (that it is at least the goal). Raises `seedplumber_unfittable` for sums that no rows have.
predict_growth <- function(draws, students, at, goal) {
  check_students(students)
  if (any(draws$sigma <= 0)) seedplumber::abort_unfittable("A draw has sigma 0: noise must be positive.")
  mean <- sd <- probability <- matrix(NA_real_, nrow(students), length(at))
  for (members in split(seq_len(nrow(students)), design_key(students))) {
    group <- students[members, ]
    for (j in seq_along(at)) {
      predicted <- predict_design(draws, group, at[j], goal)
      mean[members, j] <- predicted$mean
      sd[members, j] <- predicted$sd
      probability[members, j] <- predicted$probability
    }
  }
  data.frame(user_id = rep(students$user_id, times = length(at)), at = rep(at, each = nrow(students)),
             mean = c(mean), sd = c(sd), probability = c(probability))
}

#' As predict_growth(), for students of one design and one week x.
predict_design <- function(draws, group, x, goal) {
  n <- group$n[1]
  sw <- group$sw[1]
  sww <- group$sww[1]
  s2 <- draws$sigma^2
  s00 <- draws$sd_Intercept^2
  s11 <- draws$sd_week^2
  s01 <- draws$cor * draws$sd_Intercept * draws$sd_week
  det_s <- s00 * s11 * (1 - draws$cor^2)
  # V = (Sigma + |Sigma| adj(A) / sigma^2) / det: sums of non-negative terms, whatever the ranks
  det <- 1 + (s00 * n + 2 * s01 * sw + s11 * sww) / s2 + det_s * max(0, n * sww - sw^2) / s2^2
  v00 <- (s00 + det_s * sww / s2) / det
  v01 <- (s01 - det_s * sw / s2) / det
  v11 <- (s11 + det_s * n / s2) / det
  # the mean at x is level + w . (c - centre): linear in the student's own sums
  w <- cbind(v00 + v01 * x, v01 + v11 * x) / s2
  variance <- v00 + 2 * v01 * x + v11 * x^2 + s2
  own <- cbind(group$sy, group$swy)
  centre <- colMeans(own)
  own <- sweep(own, 2, centre)
  level <- draws$b_Intercept + draws$b_week * x +
    w[, 1] * (centre[1] - n * draws$b_Intercept - sw * draws$b_week) +
    w[, 2] * (centre[2] - sw * draws$b_Intercept - sww * draws$b_week)

  linear <- cbind(level, w)
  between <- crossprod(sweep(linear, 2, colMeans(linear))) / nrow(linear)
  terms <- cbind(1, own)
  scaled <- cbind(level - goal, w) / sqrt(variance)
  blocks <- split(seq_len(nrow(terms)), (seq_len(nrow(terms)) - 1L) %/% students_at_once)
  tails <- lapply(blocks, function(block) {
    rowMeans(stats::pnorm(tcrossprod(terms[block, , drop = FALSE], scaled)))
  })
  list(mean = drop(terms %*% colMeans(linear)),
       sd = sqrt(mean(variance) + rowSums((terms %*% between) * terms)),
       probability = unlist(tails, use.names = FALSE))
}

check_students <- function(students) {
  twice <- students$user_id[duplicated(students$user_id)]
  if (length(twice) > 0) {
    seedplumber::abort_unfittable(sprintf("Student %s appears twice: send one row a student.", twice[1]))
  }
  impossible <- with(students, n * sww < sw^2 * (1 - singular_below) |
                       (n == 0 & (sw != 0 | sy != 0 | swy != 0)))
  if (any(impossible)) {
    seedplumber::abort_unfittable(sprintf(
      "The sums of student %s are of no rows: n sww must be at least sw^2.",
      students$user_id[which(impossible)[1]]))
  }
}
