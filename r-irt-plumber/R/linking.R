# Scales. Parameters are estimated on standardised ability z; the reported scale is theta = slope * z +
# intercept.

#' The line that takes difficulties to the anchors' scale: equal mean and sd (Marco 1977; Kolen & Brennan
#' 2014, section 6.2).
#' @param b estimated difficulties; @param anchor_b the same items' difficulties on the wanted scale.
mean_sigma <- function(b, anchor_b) {
  slope <- stats::sd(anchor_b) / stats::sd(b)
  c(slope = slope, intercept = mean(anchor_b) - slope * mean(b))
}

#' Item parameters on the reported scale, with standard errors by the delta method.
#'
#' With `fixed` anchors the scale (mean and sd of ability) is itself estimated, and its uncertainty is carried
#' over; a mean-sigma line is taken as given.
#' @param scale c(slope, intercept) of theta on z.
#' @return data frame over the design's free items: `a`, `b`, `se_a`, `se_b` (NA without a covariance).
report_items <- function(parameters, covariance, design, scale) {
  n <- length(design$free)
  a <- rep_len(parameters[design$slopes], n)
  d <- parameters[design$intercepts]
  missing <- rep(NA_real_, n)
  reported <- data.frame(a = a / scale[1], b = scale[2] - scale[1] * d / a, se_a = missing, se_b = missing)
  if (is.null(covariance) || n == 0) {
    return(reported)
  }
  i <- seq_len(n)
  slope_at <- rep_len(design$slopes, n)
  by_scale <- length(design$population) > 0
  more <- moving_prior_variance(covariance, parameters, design)
  se <- function(by_slope, by_intercept, by_mean, by_sd) {
    jacobian <- Matrix::sparseMatrix(
      i = c(i, i, if (by_scale) c(i, i)),
      j = c(slope_at, design$intercepts, if (by_scale) rep(design$population, each = n)),
      x = c(by_slope, by_intercept, if (by_scale) c(by_mean, by_sd)),
      dims = c(n, design$n_parameters)
    )
    sqrt(Matrix::rowSums((jacobian %*% covariance) * jacobian) + more(jacobian))
  }
  zero <- numeric(n)
  reported$se_a <- se(zero + 1 / scale[1], zero, zero, -a / scale[1]^2)
  reported$se_b <- se(scale[1] * d / a^2, -scale[1] / a, zero + 1, -d / a)
  reported
}

#' The anchors that were answered, or NULL where none are given.
#' Raises `invalid` for an anchor given twice or with a <= 0; `unfittable` where fewer than two were answered.
present_anchors <- function(anchors, responses) {
  if (is.null(anchors) || nrow(anchors) == 0) {
    return(NULL)
  }
  if (anyDuplicated(anchors$item_id) > 0) {
    seedplumber::abort_invalid("anchors.item_id", sprintf(
      "must name an item once, but %s is there twice", anchors$item_id[anyDuplicated(anchors$item_id)]
    ))
  }
  stopifnot(all(is.finite(anchors$a)), all(anchors$a > 0), all(is.finite(anchors$b)))
  present <- anchors[anchors$item_id %in% levels(responses$item_id), c("item_id", "a", "b")]
  require_two(nrow(present), nrow(anchors), "were answered")
  present[order(present$item_id, method = "radix"), ]
}

require_two <- function(n_usable, n_given, what) {
  if (n_usable < 2) {
    seedplumber::abort_unfittable(sprintf(
      "%d of the %d anchors %s; the scale needs two. Give more, or none and accept a scale of its own.",
      n_usable, n_given, what
    ))
  }
}

#' The mean-sigma line over those anchors that were calibrated.
#' @param standard slopes and intercepts of the items `item_id`.
mean_sigma_of <- function(anchors, item_id, standard) {
  anchors <- anchors[anchors$item_id %in% item_id, ]
  at <- match(anchors$item_id, item_id)
  b <- -standard$intercept[at] / standard$slope[at]
  distinct <- length(unique(anchors$b)) > 1 && length(unique(b)) > 1
  n_usable <- if (distinct) nrow(anchors) else 1L
  require_two(n_usable, nrow(anchors), "could be calibrated and differ in difficulty")
  unname(mean_sigma(b, anchors$b))
}

#' How the scale was linked. `rmse` is that of the anchors' difficulties after linking against those given (0
#' where they are held), `drift` the sd of their movement beyond the sampling error of the estimates.
linking_summary <- function(method, scale, anchors, items) {
  at <- match(anchors$item_id, items$item_id, nomatch = 0)
  moved <- items$b[at] - anchors$b[at > 0]
  list(
    method = method, n_anchors = length(moved), slope = scale[1], intercept = scale[2],
    rmse = sqrt(mean(moved^2)), drift = drift(moved, items$se_b[at])
  )
}

#' The sd between the anchors' movements, each known to its standard error: the one at which the squares, over
#' their expectation, add up to their degrees of freedom (Paule & Mandel 1982, J. Res. Natl. Bur. Stand. 87,
#' 377). The line takes two of these; the old difficulties are taken as known. An anchor that is hardly known
#' hardly counts, and few answers alone are no drift.
drift <- function(moved, se) {
  df <- max(1, length(moved) - 2)
  most <- sum(moved^2) / df
  if (most == 0 || anyNA(se)) {
    return(sqrt(most))
  }
  excess <- function(variance) sum(moved^2 / (se^2 + variance)) - df
  if (excess(0) <= 0) 0 else sqrt(stats::uniroot(excess, c(0, most), tol = 1e-9 * most)$root)
}
