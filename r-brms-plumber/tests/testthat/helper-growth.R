# Run by r-plumber-common/run-tests.R: the service's functions and `service_dir` are in scope.

sys.source(file.path(service_dir, "sbc.R"), environment())

# Compiles what is not there yet; otherwise returns at once.
rscript <- file.path(R.home("bin"), "Rscript")
system2(rscript, c(shQuote(file.path(service_dir, "compile.R")), "--brms"), stderr = FALSE)
marginal_model <- load_model("growth_marginal", service_dir)

typical <- c(b_Intercept = 0.2, b_week = 0.5, sd_Intercept = 0.8, sd_week = 0.5, cor = -0.3, sigma = 0.6)

simulated_rows <- function(seed, ...) {
  set.seed(seed)
  simulate_growth(typical, ...)$rows
}

fit_rows <- function(rows, ...) {
  statistics <- growth_patterns(rows)
  fit_marginal(statistics$patterns, statistics$sum_yy, marginal_model, ...)
}

mean_of <- function(fitted, column = "mean") {
  stats::setNames(fitted$summary[[column]], fitted$summary$parameter)
}

# How far each parameter is from its peer, as a share of it. expect_equal(tolerance =) compares the mean of a
# vector's differences with the vector's mean: one parameter may be far off among good ones.
farthest <- function(found, expected) max(abs(found / expected - 1))

# A fit without draws, for its log density.
unsampled <- function(terms) {
  data <- terms[stan_data]
  suppressWarnings(rstan::sampling(marginal_model, data = data, chains = 1, iter = 2, refresh = 0))
}

# 18 subjects, 10 days: Belenky et al., J Sleep Res 12 (2003) 1-12; as shipped with lme4.
sleepstudy <- function() {
  file <- file.path(dirname(dirname(service_dir)), "shared", "data", "oracle", "sleepstudy.csv")
  if (file.exists(file)) return(utils::read.csv(file, colClasses = c(Subject = "character")))
  testthat::skip_if_not_installed("lme4")
  lme4::sleepstudy
}

# The log posterior density by the definition: each student's scores are multivariate normal.
log_posterior <- function(theta, rows) {
  cov <- theta[["cor"]] * theta[["sd_Intercept"]] * theta[["sd_week"]]
  spread <- matrix(c(theta[["sd_Intercept"]]^2, cov, cov, theta[["sd_week"]]^2), 2)
  likelihood <- vapply(split(rows, rows$user_id), function(student) {
    design <- cbind(1, student$week)
    variance <- diag(theta[["sigma"]]^2, nrow(design)) + design %*% spread %*% t(design)
    residual <- student$score - design %*% theta[c("b_Intercept", "b_week")]
    root <- chol(variance)
    -sum(log(diag(root))) - sum(backsolve(root, residual, transpose = TRUE)^2) / 2
  }, 0)
  sum(likelihood) - sum(theta[names(theta) != "cor"]^2) / 2 + log(1 - theta[["cor"]]^2)
}
