# The observed information of the marginal likelihood (Louis 1982): that of the complete data less the
# posterior covariance, learner by learner, of the complete-data score.
#
# The score of an answer is a function of ability alone, so its covariance is a sum over a basis of functions
# of ability. With the polynomials p_k that are orthonormal under the learner's own posterior a few terms
# suffice. Each term is one sparse matrix (learners x parameters); the sum of their cross-products is the
# covariance. Coefficients of the slope follow from those of the intercept by z p_k = beta_(k+1) p_(k+1) +
# alpha_k p_k + beta_k p_(k-1).

# With more items the full matrix (2 x items, squared) costs seconds and hundreds of megabytes. Beyond this
# only each item's own 2 x 2 block of it is used, which leaves out what items share through the abilities:
# standard errors are then up to a seventh too small (at 40 answers a learner).
max_joint_items <- 1000L

#' One pass over all learners at given items: scores, observed information, abilities, residuals.
#'
#' @param items list of `slope` and `intercept`, on standardised ability.
#' @param precision,joint_precision terms of the basis end when one adds less than the first share of the
#'   information that is left; of those that add less than the second, only each item's own block is taken.
#'   Standard errors are then right to 1e-3 of their value also where an item is barely determined (tested).
#' @param joint take what items share into account, too.
#' @return list: `gradient` (2 x items: slopes, then intercepts), `information` (square, of the same), `theta`
#'   and `se` (standardised posterior mean and sd per user), `residual` (one sparse matrix users x items:
#'   answer less its expectation), `n` and `correct` (items x nodes: expected answers, and right ones),
#'   `log_likelihood`.
posterior_pass <- function(blocks, items, grid, precision = 1e-4, joint_precision = 3e-3, max_degree = 20L,
                           joint = length(items$slope) <= max_joint_items) {
  n_items <- length(items$slope)
  right <- stats::plogis(outer(items$slope, grid$z) + items$intercept)
  soft <- soft_plus(items$slope, items$intercept, grid)
  curves <- low_rank(right)
  gradient <- numeric(2 * n_items)
  missing <- if (joint) matrix(0, 2 * n_items, 2 * n_items) else 0
  own_missing <- matrix(0, n_items, 3)
  n <- correct <- matrix(0, n_items, length(grid$z))
  theta <- se <- residual <- vector("list", length(blocks))
  log_likelihood <- 0

  for (b in seq_along(blocks)) {
    block <- blocks[[b]]
    post <- posterior(block, items$slope, items$intercept, soft, grid)
    weight <- post$weight
    mean <- as.vector(weight %*% grid$z)
    theta[[b]] <- mean
    se[[b]] <- sqrt(rowSums(weight * outer(-mean, grid$z, `+`)^2))
    log_likelihood <- log_likelihood + sum(post$log_likelihood)
    n_block <- as.matrix(Matrix::crossprod(block$answered, weight))
    n <- n + n_block
    correct <- correct + as.matrix(Matrix::crossprod(block$correct, weight))
    left <- (n_block * right * (1 - right)) %*% cbind(grid$z^2, 1)

    user <- block$answered@i + 1L
    item <- rep(seq_len(n_items), diff(block$answered@p))
    # -E[P(z) f(z)] of each answer, f given at the nodes (users x nodes).
    project <- function(f) -tcrossprod((weight * f) %*% curves$by_node, curves$by_item)[cbind(user, item)]

    p <- matrix(1, length(block$rows), length(grid$z))
    p_before <- 0 * p
    alpha <- mean
    beta <- numeric(length(block$rows))
    by_intercept <- block$correct@x + project(p)
    by_intercept_before <- 0 * by_intercept
    residual[[b]] <- replace_values(block$answered, by_intercept)
    for (k in 0:max_degree) {
      p_next <- outer(-alpha, grid$z, `+`) * p - beta * p_before
      beta_next <- sqrt(rowSums(weight * p_next^2))
      p_next <- p_next / pmax(beta_next, .Machine$double.xmin)
      by_intercept_next <- project(p_next)
      by_slope <- beta_next[user] * by_intercept_next + alpha[user] * by_intercept +
        beta[user] * by_intercept_before
      if (k == 0) {
        gradient <- gradient +
          c(column_sums(block$answered, by_slope), column_sums(block$answered, by_intercept))
      } else {
        own <- cbind(
          column_sums(block$answered, by_slope^2), column_sums(block$answered, by_intercept^2),
          column_sums(block$answered, by_slope * by_intercept)
        )
        added <- own[, 1:2]
        if (joint && any(added > joint_precision * left)) {
          missing <- missing + as.matrix(Matrix::crossprod(beside(block$answered, by_slope, by_intercept)))
        } else {
          own_missing <- own_missing + own
        }
        left <- left - added
        if (all(added <= precision * left)) break
      }
      p_before <- p
      p <- p_next
      alpha <- rowSums(weight * p^2 * rep(grid$z, each = nrow(p)))
      beta <- beta_next
      by_intercept_before <- by_intercept
      by_intercept <- by_intercept_next
    }
  }

  own <- (n * right * (1 - right)) %*% cbind(grid$z^2, 1, grid$z) - own_missing
  list(
    gradient = gradient, information = block_diagonal(own) - missing,
    theta = unlist(theta), se = unlist(se), residual = do.call(rbind, residual), n = n, correct = correct,
    log_likelihood = log_likelihood
  )
}

#' A matrix as the product `by_item %*% t(by_node)` of narrower ones: item curves are smooth, so about a dozen
#' columns do for hundreds of items.
low_rank <- function(x, tolerance = 1e-6) {
  parts <- svd(x)
  kept <- seq_len(max(1L, sum(parts$d > tolerance * parts$d[1])))
  by_item <- parts$u[, kept, drop = FALSE] %*% diag(parts$d[kept], length(kept))
  list(by_item = by_item, by_node = parts$v[, kept, drop = FALSE])
}

#' A sparse matrix with the pattern of another.
replace_values <- function(pattern, x) {
  pattern@x <- x
  pattern
}

column_sums <- function(pattern, x) Matrix::colSums(replace_values(pattern, x))

#' Two sparse matrices of one pattern, side by side.
beside <- function(pattern, left, right) cbind(replace_values(pattern, left), replace_values(pattern, right))

#' Sparse symmetric matrix of (slopes, intercepts) from each item's own: columns slope, intercept, cross.
block_diagonal <- function(own) {
  n <- nrow(own)
  i <- seq_len(n)
  Matrix::sparseMatrix(
    i = c(i, n + i, i, n + i), j = c(i, n + i, n + i, i), x = c(own[, 1], own[, 2], own[, 3], own[, 3]),
    dims = c(2L * n, 2L * n)
  )
}

#' Covariance matrix of the parameters of a design: inverse of the observed information.
#' @return matrix (possibly sparse), or NULL where the information is not positive definite: then the data do
#'   not determine the parameters, or the fit is no maximum.
parameter_covariance <- function(information, parameters, design) {
  jacobian <- expand_jacobian(design)
  information <- Matrix::crossprod(jacobian, information %*% jacobian)
  if (!is.null(design$prior) && length(design$slopes) > 0) {
    at <- cbind(design$slopes, design$slopes)
    information[at] <- information[at] - slope_prior(parameters[design$slopes], design$prior)$curvature
  }
  # Dense and sparse chol() say in different words that there is no root, the sparse one in a warning too.
  root <- tryCatch(
    suppressWarnings(Matrix::chol(Matrix::forceSymmetric(information))), error = function(condition) NULL
  )
  # A pivot this small against the largest is rounding, not information.
  if (is.null(root) || min(Matrix::diag(root)) <= 1e-6 * max(Matrix::diag(root))) {
    return(NULL)
  }
  Matrix::chol2inv(root)
}

#' With held anchors the prior of the slopes moves with the sd u of ability, which the information M takes as
#' given. The equations that the estimates solve have the derivatives M - c e_u', c being that of the prior's
#' gradient by u; so their covariance is K M K' with K = (M - c e_u')^-1 (White 1982): by the formula of
#' Sherman & Morrison (1950) that of `parameter_covariance()` and a matrix of rank 2, kept as its vectors.
#' @param covariance inverse of M.
#' @return function of a matrix of derivatives (quantities x parameters): what their variances have beside
#'   those of `covariance`.
moving_prior_variance <- function(covariance, parameters, design) {
  if (!prior_moves(design)) return(function(jacobian) 0)
  sd_at <- design$population[2]
  by_sd <- numeric(design$n_parameters)
  by_sd[design$slopes] <- 1 / (design$prior$sdlog^2 * parameters[design$slopes] * parameters[sd_at])
  shift <- as.vector(covariance %*% by_sd)
  own <- as.vector(covariance[, sd_at])
  by <- 1 - shift[sd_at]
  function(jacobian) {
    shifted <- as.vector(jacobian %*% shift) / by
    2 * shifted * as.vector(jacobian %*% own) + own[sd_at] * shifted^2
  }
}
