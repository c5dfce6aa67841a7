# Sufficient statistics of score ~ week + (week | student).
#
# With X_i the n x 2 design of a student (rows 1, week), everything that the likelihood needs of the student
# is A = X'X = [n sw; sw sww], c = X'y and y'y. Students that share A form a pattern and are summed:
# c0, c1 = sum c;  q00, q01, q11 = sum c c';  sum_yy = sum y'y over all students.

pattern_columns <- c("n_students", "n", "sw", "sww", "c0", "c1", "q00", "q01", "q11")

stan_data <- c("G", "n_students", "D", "Q", "centre", "rss", "log_sigma_power", "log_sigma_centre",
               "students", "n_rows")

# |A| = n sww - sw^2 is the sum of squared distances between the student's weeks. Below this share of n sww
# it is what rounding leaves of a student with a single week (two neighbouring weeks of a hundred: 5e-5 of
# it).
singular_below <- 1e-8

# Squares left about a mean or a line, as a share of all squares, that rounding may leave.
rounding_below <- 1e-9

#' Per-student sums of rows.
#' @param rows data frame: user_id, week, score (scaled by the caller).
#' @return data frame, a row a student: user_id, n, sw, sww, sy, swy.
student_sums <- function(rows) {
  parts <- cbind(n = 1, sw = rows$week, sww = rows$week^2, sy = rows$score, swy = rows$week * rows$score)
  sums <- rowsum(parts, rows$user_id)
  data.frame(user_id = rownames(sums), sums, row.names = NULL)
}

#' A string that is equal for equal designs, whatever rounding the order of the weeks left in their sums.
design_key <- function(students) {
  with(students, paste(n, round(sw / sqrt(pmax(n * sww, .Machine$double.xmin)), 10), signif(sww, 10)))
}

#' Rows -> patterns, as the extraction in SQL makes them.
#' @return list: patterns (data frame of pattern_columns), sum_yy.
growth_patterns <- function(rows) {
  students <- student_sums(rows)
  key <- design_key(students)
  sums <- rowsum(cbind(n_students = 1, c0 = students$sy, c1 = students$swy, q00 = students$sy^2,
                       q01 = students$sy * students$swy, q11 = students$swy^2), key, reorder = FALSE)
  first <- students[!duplicated(key), c("n", "sw", "sww")]
  patterns <- cbind(first, as.data.frame(sums))[pattern_columns]
  rownames(patterns) <- NULL
  list(patterns = patterns, sum_yy = sum(rows$score^2))
}

#' The same bits for the same students: in one order, and without the last digits, which depend on the order
#' in which a database adds rows. Sampling is chaotic, so without this a seed would not repeat a fit.
canonical_patterns <- function(patterns) {
  patterns[pattern_columns] <- lapply(patterns[pattern_columns], canonical)
  patterns[do.call(order, patterns[pattern_columns]), ]
}

# Ten digits, and no crumbs of sums that cancel: scores and weeks are of the order of one.
canonical <- function(x) signif(round(x, 12), 10)

#' Data of stan/growth_marginal.stan: the coefficients of the determinant and of the quadratic form (see
#' there).
#'
#' Residuals are taken from the pooled least-squares line first, so that the squares that are multiplied out
#' later are small. Scores should be centred by the caller for the same reason.
#' @param patterns data frame of pattern_columns, a row a design.
#' @param sum_yy sum of squared scores.
#' @return list: the data block of the Stan program; and for the checks: residual_df, spread_week,
#'   spread_score (sums of squares about their means), mean_score.
pattern_terms <- function(patterns, sum_yy) {
  with(patterns, {
    det_a <- n * sww - sw^2
    full <- det_a > singular_below * n * sww
    det_a[!full] <- 0

    n_rows <- sum(n_students * n)
    mean_week <- sum(n_students * sw) / n_rows
    mean_score <- sum(c0) / n_rows
    spread_week <- sum(n_students * (sww - 2 * mean_week * sw + n * mean_week^2))
    slope <- sum(c1 - mean_week * c0) / spread_week
    centre <- c(mean_score - slope * mean_week, slope)
    spread_score <- sum_yy - n_rows * mean_score^2

    # r = c - A centre, summed; rr = sum r r'
    m0 <- n * centre[1] + sw * centre[2]
    m1 <- sw * centre[1] + sww * centre[2]
    r0 <- c0 - n_students * m0
    r1 <- c1 - n_students * m1
    rr00 <- q00 - 2 * c0 * m0 + n_students * m0^2
    rr01 <- q01 - c0 * m1 - c1 * m0 + n_students * m0 * m1
    rr11 <- q11 - 2 * c1 * m1 + n_students * m1^2

    # adj(A) = [sww -sw; -sw n]; b - centre = adj(A) r / |A|
    per_det <- ifelse(full, 1 / det_a, 0)
    fitted <- ifelse(full, (sww * rr00 - 2 * sw * rr01 + n * rr11) * per_det, rr00 / n)
    u00 <- (sww^2 * rr00 - 2 * sww * sw * rr01 + sw^2 * rr11) * per_det
    u01 <- (-sww * sw * rr00 + (sww * n + sw^2) * rr01 - sw * n * rr11) * per_det
    u11 <- (sw^2 * rr00 - 2 * sw * n * rr01 + n^2 * rr11) * per_det
    e0 <- ifelse(full, sww * r0 - sw * r1, 0)
    e1 <- ifelse(full, -sw * r0 + n * r1, 0)

    squares <- spread_score - slope^2 * spread_week # about the pooled line
    rss <- max(0, squares - sum(fitted))
    residual_df <- sum(n_students * (n - 1 - full))
    list(
      G = length(n),
      n_students = as.array(as.numeric(n_students)),
      D = cbind(1, n, 2 * sw, sww, det_a, deparse.level = 0),
      Q = cbind(fitted, r0, r1, n_students * n, n_students * sw, n_students * sww, u00, u01, u11, e0, e1,
                n_students * det_a, deparse.level = 0),
      centre = centre,
      rss = rss,
      log_sigma_power = n_rows - 2 * sum(n_students),
      log_sigma_centre = log(rss / residual_df) / 2,
      students = sum(n_students),
      n_rows = n_rows,
      residual_df = residual_df,
      spread_week = spread_week,
      spread_score = spread_score,
      mean_score = mean_score
    )
  })
}

#' Refuse data that cannot tell the parameters apart.
#' @param patterns,sum_yy as in pattern_terms().
#' @return pattern_terms() of the canonical_patterns(). Raises `seedplumber_unfittable` with a sentence
#'   otherwise.
check_patterns <- function(patterns, sum_yy) {
  refuse <- function(...) seedplumber::abort_unfittable(sprintf(...))
  short_of <- function(squares, sum) squares < sum^2 * (1 - singular_below) # Cauchy and Schwarz
  impossible <- with(patterns, short_of(n * sww, sw) | short_of(n_students * q00, c0) |
                       short_of(n_students * q11, c1))
  if (any(impossible)) {
    refuse("Pattern %d is no sum over students: a sum of squares is smaller than the squared sum allows.",
           which(impossible)[1])
  }
  terms <- pattern_terms(canonical_patterns(patterns), canonical(sum_yy))
  if (terms$students < 2) {
    refuse("Growth needs at least two students; there is one.")
  }
  total_week <- sum(patterns$n_students * patterns$sww)
  if (!is.finite(terms$spread_week) || terms$spread_week <= singular_below * total_week) {
    refuse("All scores are of one week, so there is no growth to fit.")
  }
  if (terms$spread_score <= rounding_below * sum_yy) {
    refuse("The score is constant, or varies too little beside its mean: there is nothing to fit.")
  }
  if (terms$residual_df < 1) {
    refuse(paste("No student has more scores than a line takes (two, or one week only),",
                 "so noise and differences between students cannot be told apart."))
  }
  if (terms$rss <= rounding_below * sum_yy) {
    refuse("Every student's scores lie exactly on a line, so there is no noise to estimate.")
  }
  terms
}

#' Sentences about data that the priors were not made for.
scale_warnings <- function(terms) {
  spread <- sqrt(terms$spread_score / terms$n_rows)
  slope <- abs(terms$centre[2])
  unscaled <- abs(terms$mean_score) > 3 || slope > 3 || spread > 3 || spread < 0.1
  if (!unscaled) return(character())
  sprintf(paste("The scores (mean %.3g, sd %.3g, %.3g a unit of week) are not on the scale of the N(0, 1)",
                "priors: send (score - centre) / scale and (week - mean) / span."),
          terms$mean_score, spread, terms$centre[2])
}
