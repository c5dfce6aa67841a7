# The model of engine "brms". Compiled fits are tied to this file: after a change, run compile.R --brms again.

#' Same model and priors as stan/growth_marginal.stan. `0 + Intercept` puts the prior on the mean at week 0
#' of the scaled weeks; brms would otherwise put it on the mean at the average row.
brms_formula <- function() {
  brms::bf(score ~ 0 + Intercept + week + (week | student))
}

#' Every prior is set: brms' own defaults are constants of the data that a fit was compiled with.
brms_priors <- function(family) {
  priors <- c(brms::set_prior("normal(0, 1)", class = "b"), brms::set_prior("normal(0, 1)", class = "sd"),
              brms::set_prior("lkj(2)", class = "cor"), brms::set_prior("normal(0, 1)", class = "sigma"))
  if (family == "student") priors <- c(priors, brms::set_prior("gamma(2, 0.1)", class = "nu"))
  priors
}

#' Compile the model of a family: a brmsfit without draws.
compile_brms <- function(family) {
  data <- data.frame(score = c(-0.4, 0.1, 0.2, 0.9, 0.3, 0.5), week = rep(c(-0.5, 0, 0.5), 2),
                     student = rep(c("a", "b"), each = 3))
  brms::brm(brms_formula(), data = data, family = family, prior = brms_priors(family), chains = 0, silent = 2)
}
