# What is said about a posterior: the same for both engines.

growth_parameters <- c("b_Intercept", "b_week", "sd_Intercept", "sd_week", "cor", "sigma")

#' Means, quantiles and convergence of each parameter.
#'
#' Rank-normalised split R-hat and bulk and tail effective sample size: Vehtari, Gelman, Simpson, Carpenter,
#' Buerkner, "Rank-normalization, folding, and localization", Bayesian Analysis 16 (2021) 667-718.
#' @param draws array, iterations x chains x parameters.
#' @return data frame: parameter, mean, sd, q5, q50, q95, rhat, ess_bulk, ess_tail.
posterior_summary <- function(draws) {
  columns <- posterior::summarise_draws(
    posterior::as_draws_array(draws), mean = mean, sd = stats::sd,
    ~ stats::setNames(stats::quantile(.x, c(0.05, 0.5, 0.95), names = FALSE), c("q5", "q50", "q95")),
    rhat = posterior::rhat, ess_bulk = posterior::ess_bulk, ess_tail = posterior::ess_tail)
  # plain numbers, not those of class pillar_num
  columns <- data.frame(parameter = columns$variable, lapply(columns[-1], as.double))
  rownames(columns) <- NULL
  columns
}

#' Sampler and convergence diagnostics over all parameters.
#' @param summary posterior_summary().
#' @param fit stanfit, whose sampler parameters are read.
#' @return list: max_rhat, min_ess_bulk, min_ess_tail, divergent, max_treedepth_hits (counts of draws),
#'   n_draws, n_chains.
growth_diagnostics <- function(summary, fit, max_treedepth) {
  sampler <- do.call(rbind, rstan::get_sampler_params(fit, inc_warmup = FALSE))
  list(
    max_rhat = max(summary$rhat), # NA where a chain did not move: no gate lets that pass
    min_ess_bulk = min(summary$ess_bulk),
    min_ess_tail = min(summary$ess_tail),
    divergent = sum(sampler[, "divergent__"]),
    max_treedepth_hits = sum(sampler[, "treedepth__"] >= max_treedepth),
    n_draws = nrow(sampler),
    n_chains = fit@sim$chains
  )
}

#' Long trajectories cost time, not truth; R-hat, ESS and divergence are judged by who publishes.
treedepth_warning <- function(diagnostics) {
  with(diagnostics, if (max_treedepth_hits > 0) {
    sprintf("%d of %d draws hit the maximal tree depth.", max_treedepth_hits, n_draws)
  })
}
