# Marginal maximum likelihood of the one- and two-parameter logistic models by EM (Bock & Aitkin 1981), with
# P(right) = 1 / (1 + exp(-(slope * z + intercept))), z ~ N(0, 1); slope = a and intercept = -a b.
#
# Two things make it fast. The right answers enter the likelihood only through sums that are linear in z, so
# an iteration needs two products of a sparse and a dense matrix, not four. And SQUAREM (Varadhan & Roland
# 2008) takes the slow last steps of EM at once.

# Beyond this a curve rises from .1 to .9 within .44 of an ability unit: not to be told from a step by
# learners whose own abilities are known to +-.2 at best.
max_discrimination <- 10
# Below this one sd of ability changes the odds of a right answer by less than 1 %, and b = -intercept / slope
# is rounding. The 1PL ends here where answers do not go together: its likelihood is the same for a and -a.
min_discrimination <- .01

#' Equally spaced nodes with normal weights. The error of this rule falls as exp(-2 pi^2 (sd/h)^2) for a
#' learner whose posterior has this sd: with h = .2 it is 3e-5 at sd .15 (about 200 answers).
ability_grid <- function(n = 61L, limit = 6) {
  z <- seq(-limit, limit, length.out = n)
  list(z = z, log_weight = stats::dnorm(z, log = TRUE) - log(sum(stats::dnorm(z))))
}

log1p_exp <- function(x) pmax(x, 0) + log1p(exp(-abs(x)))

#' Posterior weights (users x nodes) of a block's users, and their log-likelihoods.
posterior <- function(block, slope, intercept, soft, grid) {
  log_joint <- outer(as.vector(block$correct %*% slope), grid$z) +
    as.vector(block$correct %*% intercept) -
    as.matrix(block$answered %*% soft) +
    rep(grid$log_weight, each = length(block$rows))
  top <- log_joint[cbind(seq_along(block$rows), max.col(log_joint, "first"))]
  weight <- exp(log_joint - top)
  total <- rowSums(weight)
  list(weight = weight / total, log_likelihood = top + log(total))
}

soft_plus <- function(slope, intercept, grid) log1p_exp(outer(slope, grid$z) + intercept)

#' Expected counts given the items.
#' @return list: `n` (items x nodes: expected answers at a node), `sum_correct`, `sum_correct_z` (per item:
#'   right answers, and right answers weighted by expected ability), `log_likelihood`.
e_step <- function(blocks, items, grid) {
  soft <- soft_plus(items$slope, items$intercept, grid)
  n <- matrix(0, length(items$slope), length(grid$z))
  sum_correct <- sum_correct_z <- numeric(length(items$slope))
  log_likelihood <- 0
  for (block in blocks) {
    post <- posterior(block, items$slope, items$intercept, soft, grid)
    n <- n + as.matrix(Matrix::crossprod(block$answered, post$weight))
    sum_correct <- sum_correct + Matrix::colSums(block$correct)
    sum_correct_z <- sum_correct_z + as.vector(Matrix::crossprod(block$correct, post$weight %*% grid$z))
    log_likelihood <- log_likelihood + sum(post$log_likelihood)
  }
  list(n = n, sum_correct = sum_correct, sum_correct_z = sum_correct_z, log_likelihood = log_likelihood)
}

# What is estimated. The slopes and intercepts of all items are linear in the parameters: a free item has its
# own, or with the 1PL its intercept and the one slope; an anchor with given a and b has slope a * sd and
# intercept a * (mean - b), where mean and sd of ability are the parameters.

#' @param n_items number of items.
#' @param model "1PL" or "2PL".
#' @param anchor indices of the items whose `a` and `b` are held; may be empty.
model_design <- function(n_items, model, anchor = integer(), a = numeric(), b = numeric(), prior = NULL) {
  free <- setdiff(seq_len(n_items), anchor)
  n_slopes <- if (length(free) == 0) 0L else if (model == "1PL") 1L else length(free)
  population <- if (length(anchor) > 0) n_slopes + length(free) + 1:2 else integer()
  list(
    model = model, n_items = n_items, free = free, anchor = anchor, a = a, b = b, prior = prior,
    slopes = seq_len(n_slopes), intercepts = n_slopes + seq_along(free), population = population,
    n_parameters = n_slopes + length(free) + length(population)
  )
}

#' Whether the prior on slopes moves with the sd of ability: it does where anchors are held.
prior_moves <- function(design) {
  !is.null(design$prior) && length(design$population) > 0 && length(design$slopes) > 0
}

expand <- function(parameters, design) {
  slope <- intercept <- numeric(design$n_items)
  slope[design$free] <- parameters[design$slopes]
  intercept[design$free] <- parameters[design$intercepts]
  if (length(design$anchor) > 0) {
    mean <- parameters[design$population[1]]
    sd <- parameters[design$population[2]]
    slope[design$anchor] <- design$a * sd
    intercept[design$anchor] <- design$a * (mean - design$b)
  }
  list(slope = slope, intercept = intercept)
}

#' d(slopes, intercepts) / d(parameters): 2 n_items x n_parameters, sparse and constant.
expand_jacobian <- function(design) {
  row <- c(design$free, design$n_items + design$free)
  column <- c(rep_len(design$slopes, length(design$free)), design$intercepts)
  value <- rep(1, length(row))
  if (length(design$anchor) > 0) {
    row <- c(row, design$anchor, design$n_items + design$anchor)
    column <- c(column, rep(rev(design$population), each = length(design$anchor)))
    value <- c(value, design$a, design$a)
  }
  Matrix::sparseMatrix(i = row, j = column, x = value, dims = c(2L * design$n_items, design$n_parameters))
}

#' Log density of the normal prior on the logarithms of the slopes with its first and second derivative by the
#' slopes; zeros without a prior. The mode is that of log a, as in Mislevy (1986): the density of a itself has
#' its mode at exp(-sdlog^2) of the median, and would pull there what few answers tell.
slope_prior <- function(slope, prior) {
  if (is.null(prior)) {
    return(list(value = 0, gradient = 0 * slope, curvature = 0 * slope))
  }
  from_mean <- (log(slope) - prior$meanlog) / prior$sdlog^2
  list(
    value = sum(stats::dnorm(log(slope), prior$meanlog, prior$sdlog, log = TRUE)),
    gradient = -from_mean / slope,
    curvature = (from_mean - 1 / prior$sdlog^2) / slope^2
  )
}

#' The parameters that maximise the expected complete-data log-likelihood: a weighted logistic regression for
#' each item, all at once by Newton's method (concave, hence only the length of a step is bounded).
m_step <- function(parameters, counts, design, grid, ridge = 1e-8) {
  free <- design$free
  anchor <- design$anchor
  for (iteration in 1:25) {
    items <- expand(parameters, design)
    right <- stats::plogis(outer(items$slope, grid$z) + items$intercept)
    expected <- counts$n * right
    information <- expected * (1 - right)
    gradient_slope <- counts$sum_correct_z - as.vector(expected %*% grid$z)
    gradient_intercept <- counts$sum_correct - rowSums(expected)
    # The ridge only matters where the answers say nothing, and the step would be 0 / 0.
    h_intercept <- rowSums(information) + ridge
    h_cross <- as.vector(information %*% grid$z)
    h_slope <- as.vector(information %*% grid$z^2)
    step <- numeric(length(parameters))
    if (length(free) > 0) {
      prior <- slope_prior(parameters[design$slopes], design$prior)
      # Never less than half the information of the data, so that a prior's convex tail cannot turn a step
      # round.
      if (design$model == "1PL") {
        own <- h_cross[free] / h_intercept[free]
        schur <- max(sum(h_slope[free] - h_cross[free] * own), ridge)
        by_slope <- (sum(gradient_slope[free] - own * gradient_intercept[free]) + prior$gradient) /
          (schur + max(-prior$curvature, -schur / 2))
      } else {
        own <- h_cross[free] / h_intercept[free]
        schur <- pmax(h_slope[free] - h_cross[free] * own, ridge)
        by_slope <- (gradient_slope[free] - own * gradient_intercept[free] + prior$gradient) /
          (schur + pmax(-prior$curvature, -schur / 2))
      }
      step[design$slopes] <- by_slope
      step[design$intercepts] <- gradient_intercept[free] / h_intercept[free] - own * by_slope
    }
    if (length(anchor) > 0) {
      a <- design$a
      h <- matrix(c(
        sum(a^2 * h_intercept[anchor]), sum(a^2 * h_cross[anchor]),
        sum(a^2 * h_cross[anchor]), sum(a^2 * h_slope[anchor])
      ), 2)
      gradient <- c(sum(a * gradient_intercept[anchor]), sum(a * gradient_slope[anchor]))
      step[design$population] <- solve(h + diag(ridge, 2), gradient)
    }
    parameters <- feasible(parameters + pmax(pmin(step, 1), -1), parameters, design)
    if (max(abs(step)) < 1e-7) break
  }
  parameters
}

#' Keep slopes within their bound, intercepts where curves are still curves, and slopes under a prior and the
#' sd of ability positive: halfway from `from` to 0.
feasible <- function(parameters, from, design) {
  parameters <- pmax(pmin(parameters, 50), -50)
  slopes <- design$slopes
  parameters[slopes] <- pmax(pmin(parameters[slopes], max_discrimination), -max_discrimination)
  positive <- c(if (!is.null(design$prior)) slopes, design$population[2][length(design$anchor) > 0])
  crossed <- positive[parameters[positive] <= 0]
  parameters[crossed] <- from[crossed] / 2
  parameters
}

start_parameters <- function(blocks, design) {
  n <- Reduce(`+`, lapply(blocks, function(block) Matrix::colSums(block$answered)))
  right <- Reduce(`+`, lapply(blocks, function(block) Matrix::colSums(block$correct)))
  slope <- if (is.null(design$prior)) 1 else exp(design$prior$meanlog)
  # sqrt(1 + slope^2 / 3): from the marginal to the conditional log-odds.
  log_odds <- log((right + .5) / (n - right + .5)) * sqrt(1 + slope^2 / 3)
  parameters <- numeric(design$n_parameters)
  parameters[design$slopes] <- slope
  parameters[design$intercepts] <- log_odds[design$free]
  parameters[design$population] <- c(0, 1)[seq_along(design$population)]
  parameters
}

#' Fit by EM with SQUAREM steps.
#'
#' @param tolerance converged when an EM step moves no parameter by more than this.
#' @param max_iterations most EM steps.
#' @param start parameters to start at, or NULL.
#' @return list: `parameters`, `converged`, `n_iterations`.
fit_em <- function(blocks, design, grid, tolerance, max_iterations, start = NULL) {
  current <- if (is.null(start)) start_parameters(blocks, design) else start
  n_iterations <- 0L
  em <- function(parameters) {
    n_iterations <<- n_iterations + 1L
    counts <- e_step(blocks, expand(parameters, design), grid)
    prior <- if (length(design$slopes) > 0) slope_prior(parameters[design$slopes], design$prior)$value else 0
    list(parameters = m_step(parameters, counts, design, grid), objective = counts$log_likelihood + prior)
  }
  moved <- function(from, to) max(abs(to - from))
  best <- NULL
  while (n_iterations < max_iterations) {
    first <- em(current)
    if (!is.null(best) && first$objective < best$objective) {
      # The extrapolation went downhill: go on from the plain EM step before it.
      current <- best$parameters
      first <- em(current)
    }
    if (moved(current, first$parameters) < tolerance) {
      return(list(parameters = first$parameters, converged = TRUE, n_iterations = n_iterations))
    }
    second <- em(first$parameters)
    if (moved(first$parameters, second$parameters) < tolerance) {
      return(list(parameters = second$parameters, converged = TRUE, n_iterations = n_iterations))
    }
    change <- first$parameters - current
    curvature <- second$parameters - first$parameters - change
    # After two equal changes (steps at their limit, say) there is nothing to extrapolate, and 0 * Inf is NaN.
    length <- if (any(curvature != 0)) min(-1, -sqrt(sum(change^2) / sum(curvature^2))) else -1
    best <- second
    current <- feasible(current - 2 * length * change + length^2 * curvature, second$parameters, design)
  }
  list(parameters = best$parameters, converged = FALSE, n_iterations = n_iterations)
}
