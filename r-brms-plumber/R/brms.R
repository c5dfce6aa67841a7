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

#' Posterior predictive of a new score of every student in the rows: as predict_growth().
#'
#' Gaussian: exactly from the six parameters. Student: the coefficients' draws, and the t tail averaged over
#' them; its sd is NA where a draw has nu <= 2, since the predictive variance is infinite then.
predict_brms <- function(fitted, rows, family, at, goal) {
  draws <- draws_frame(fitted$draws)
  if (family == "gaussian") return(predict_growth(draws, student_sums(rows), at, goal))
  users <- sort(unique(rows$user_id))
  blocks <- split(users, (seq_along(users) - 1L) %/% students_at_once)
  variance <- if (all(draws$nu > 2)) draws$sigma^2 * draws$nu / (draws$nu - 2) else NA_real_
  predictions <- lapply(blocks, function(block) {
    level <- brms::posterior_epred(fitted$fit, newdata = data.frame(week = at, student = block))
    mean <- colMeans(level)
    data.frame(user_id = block, at = at, mean = mean,
               sd = sqrt(mean(variance) + colMeans(sweep(level, 2, mean)^2)),
               probability = colMeans(stats::pt((level - goal) / draws$sigma, draws$nu)))
  })
  do.call(rbind, unname(predictions))
}

#' Draws of all chains as columns.
draws_frame <- function(draws) {
  flat <- matrix(draws, ncol = dim(draws)[3], dimnames = list(NULL, dimnames(draws)[[3]]))
  as.data.frame(flat)
}
