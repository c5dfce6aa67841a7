# Engine "marginal": six parameters, the students' coefficients integrated out (stan/growth_marginal.stan).

treedepth_limit <- 10

#' Sample the six parameters from patterns.
#' @param patterns data frame of pattern_columns; sum_yy: see R/patterns.R.
#' @param model compiled stanmodel.
#' @param n_samples iterations a chain, the first half warm-up.
#' @return list: draws (array, iterations x chains x growth_parameters), summary, diagnostics, warnings.
#'   Raises `seedplumber_unfittable` for data that cannot tell the parameters apart.
fit_marginal <- function(patterns, sum_yy, model, n_samples = 1000, n_chains = 4, seed = 20251102) {
  terms <- check_patterns(patterns, sum_yy)
  fit <- sample_quietly(rstan::sampling(
    model, data = terms[stan_data], pars = growth_parameters, iter = n_samples, warmup = n_samples %/% 2,
    chains = n_chains, cores = 1, seed = seed, refresh = 0, show_messages = FALSE,
    control = list(adapt_delta = 0.9, max_treedepth = treedepth_limit, metric = "dense_e")))
  draws <- rstan::extract(fit, pars = growth_parameters, permuted = FALSE)
  summary <- posterior_summary(draws)
  diagnostics <- growth_diagnostics(summary, fit, treedepth_limit)
  list(draws = draws, summary = summary, diagnostics = diagnostics, warnings = scale_warnings(terms))
}

#' Run a sampler without rstan's own advice, which growth_diagnostics() replaces. Failures stay errors.
sample_quietly <- function(sampling) {
  fit <- withCallingHandlers(sampling, warning = function(w) invokeRestart("muffleWarning"))
  if (fit@mode != 0L) stop("Stan's sampler failed.", call. = FALSE)
  fit
}
