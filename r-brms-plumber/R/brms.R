# Engine "brms": every student's coefficients are sampled; slower, and other families than the gaussian.

#' Sample from rows with a precompiled brmsfit.
#' @param rows data frame: user_id, week, score (scaled by the caller).
#' @param compiled brmsfit of compile_brms().
#' @return as fit_marginal(), and `fit`, the brmsfit.
fit_brms <- function(rows, compiled, family, n_samples = 1000, n_chains = 4, seed = 20251102) {
  statistics <- growth_patterns(rows)
  terms <- check_patterns(statistics$patterns, statistics$sum_yy)
  data <- data.frame(score = rows$score, week = rows$week, student = rows$user_id)
  # Small initial values: from the default ones, 4 of 24 chains stay at sd_Intercept near 0.
  fit <- withCallingHandlers(
    stats::update(compiled, newdata = data, recompile = FALSE, iter = n_samples, warmup = n_samples %/% 2,
                  chains = n_chains, cores = 1, seed = seed, init_r = 0.1, refresh = 0, silent = 2,
                  control = list(adapt_delta = 0.9, max_treedepth = treedepth_limit)),
    warning = function(w) invokeRestart("muffleWarning"))
  if (fit$fit@mode != 0L) stop("Stan's sampler failed.", call. = FALSE)
  names <- c("b_Intercept", "b_week", "sd_student__Intercept", "sd_student__week",
             "cor_student__Intercept__week", "sigma", if (family == "student") "nu")
  draws <- unclass(posterior::as_draws_array(fit, variable = names))
  dimnames(draws)[[3]] <- c(growth_parameters, if (family == "student") "nu")
  summary <- posterior_summary(draws)
  list(draws = draws, summary = summary, diagnostics = growth_diagnostics(summary, fit$fit, treedepth_limit),
       warnings = scale_warnings(terms), fit = fit)
}

#' Posterior predictive distribution of a new score of every student in the rows: as predict_growth().
#'
#' Gaussian: exactly from the six parameters and the students' sums. Student: from the coefficients' draws,
#' with the t tail averaged over them; `sd` is half the width of the central 68.27 %, as for a normal, since
#' the variance need not exist (nu <= 2).
#' @param rows the rows of the fit, of all or some of its students.
predict_brms <- function(fitted, rows, family, at, goal) {
  draws <- draws_frame(fitted$draws)
  if (family == "gaussian") return(predict_growth(draws, student_sums(rows), at, goal))
  users <- sort(unique(rows$user_id))
  blocks <- split(users, (seq_along(users) - 1L) %/% students_at_once)
  noise <- draws$sigma * stats::rt(nrow(draws), draws$nu)
  predict_block <- function(block, x) {
    level <- brms::posterior_epred(fitted$fit, newdata = data.frame(week = x, student = block))
    middle <- apply(level + noise, 2, stats::quantile, stats::pnorm(c(-1, 1)), names = FALSE)
    data.frame(user_id = block, at = x, mean = colMeans(level), sd = (middle[2, ] - middle[1, ]) / 2,
               probability = colMeans(stats::pt((level - goal) / draws$sigma, draws$nu)))
  }
  predictions <- lapply(at, function(x) do.call(rbind, unname(lapply(blocks, predict_block, x))))
  do.call(rbind, predictions)
}

#' Draws of all chains as columns.
draws_frame <- function(draws) {
  flat <- matrix(draws, ncol = dim(draws)[3], dimnames = list(NULL, dimnames(draws)[[3]]))
  as.data.frame(flat)
}
