# Simulation-based calibration of the marginal engine and of P (Talts, Betancourt, Simpson, Vehtari, Gelman
# 2018, "Validating Bayesian inference algorithms with simulation-based calibration", arXiv:1804.06788).
#
#   Rscript r-brms-plumber/sbc.R [FITS [SEED [CHAINS [ITERATIONS [PICTURE.svg]]]]] > ranks.csv
#
# Truth is drawn from the priors, data from the truth, and the truth's rank among the posterior draws must
# be uniform. Source the file after R/*.R to call sbc() and the simulator.

#' Parameters drawn from the priors of both engines.
#' @return named vector of growth_parameters.
draw_prior <- function() {
  # LKJ(2) in two dimensions: (cor + 1) / 2 ~ Beta(2, 2)
  c(b_Intercept = stats::rnorm(1), b_week = stats::rnorm(1), sd_Intercept = abs(stats::rnorm(1)),
    sd_week = abs(stats::rnorm(1)), cor = 2 * stats::rbeta(1, 2, 2) - 1, sigma = abs(stats::rnorm(1)))
}

#' Scores of students with a random line each.
#' @param truth named vector of growth_parameters.
#' @param weeks scaled weeks of the full design.
#' @param keep probability that a student's score of a week exists (every student keeps at least one).
#' @return list: rows (user_id, week, score), coefficients (n_students x 2).
simulate_growth <- function(truth, n_students, weeks = seq(-0.5, 0.5, length.out = 12), keep = 1) {
  z <- matrix(stats::rnorm(2 * n_students), ncol = 2)
  second <- truth[["cor"]] * z[, 1] + sqrt(1 - truth[["cor"]]^2) * z[, 2]
  coefficients <- cbind(truth[["b_Intercept"]] + truth[["sd_Intercept"]] * z[, 1],
                        truth[["b_week"]] + truth[["sd_week"]] * second)
  student <- rep(seq_len(n_students), each = length(weeks))
  week <- rep(weeks, n_students)
  noise <- truth[["sigma"]] * stats::rnorm(length(week))
  score <- coefficients[student, 1] + coefficients[student, 2] * week + noise
  kept <- stats::runif(length(week)) < keep
  kept[match(setdiff(seq_len(n_students), student[kept]), student)] <- TRUE
  list(rows = data.frame(user_id = sprintf("s%05d", student), week = week, score = score)[kept, ],
       coefficients = coefficients)
}

#' How many values a rank can take where each sixth draw, or fewer, are kept.
rank_values <- function(n_chains, n_samples) min(200, (n_chains * (n_samples %/% 2)) %/% 6)

#' Ranks of the truth.
#'
#' Every prior draw counts, also those that are hard to sample: leaving some out would bend the ranks.
#' @param model the compiled marginal model.
#' @param horizon week of the score that P is about, on the scale of the fit.
#' @param n_chains,n_samples the stage has 4 of 1000 iterations; fewer leave fewer draws of the same
#'   posterior.
#' @param ranks number of values that a rank can take: the draws are thinned to one less, as good as
#'   independent.
#' @return data frame, a row a fit: the ranks (0 .. ranks - 1) of growth_parameters; P, the same of a later
#'   score of the first student in the predictive distribution; max_rhat, min_ess, divergent.
sbc <- function(n_fits, model, seed = 1, n_students = 25, weeks = seq(-0.5, 0.5, length.out = 8), keep = 0.7,
                horizon = 0.7, n_chains = 4, n_samples = 1000,
                ranks = rank_values(n_chains, n_samples)) {
  set.seed(seed)
  fits <- lapply(seq_len(n_fits), function(i) {
    truth <- draw_prior()
    data <- simulate_growth(truth, n_students, weeks, keep)
    later <- sum(data$coefficients[1, ] * c(1, horizon)) + truth[["sigma"]] * stats::rnorm(1)
    statistics <- growth_patterns(data$rows)
    fitted <- fit_marginal(statistics$patterns, statistics$sum_yy, model, n_samples = n_samples,
                           n_chains = n_chains, seed = seed * 100000 + i)
    draws <- draws_frame(fitted$draws)
    first <- student_sums(data$rows[data$rows$user_id == data$rows$user_id[1], ])
    below <- 1 - predict_growth(draws, first, horizon, goal = later)$probability
    thinned <- draws[round(seq(1, nrow(draws), length.out = ranks - 1)), ]
    data.frame(as.list(colSums(sweep(thinned, 2, truth[names(thinned)], "<"))),
               P = min(floor(ranks * below), ranks - 1),
               max_rhat = fitted$diagnostics$max_rhat,
               min_ess = min(fitted$diagnostics$min_ess_bulk, fitted$diagnostics$min_ess_tail),
               divergent = fitted$diagnostics$divergent)
  })
  do.call(rbind, fits)
}

#' Half the width of the band that the ECDF of n uniform ranks stays in all along with probability `level`,
#' at each place, times sqrt(place (1 - place)) (Saeilynoja, Buerkner, Vehtari, Statistics and Computing 32
#' (2022) 32, with bands of equal width in standard errors).
ecdf_band <- function(n, level, places, n_simulated = 2000) {
  widest <- replicate(n_simulated, {
    deviation <- stats::ecdf(stats::runif(n))(places) - places
    max(abs(deviation) / sqrt(places * (1 - places)))
  })
  stats::quantile(widest, level, names = FALSE) * sqrt(places * (1 - places))
}

#' Draws, for every quantity, by how much the ECDF of the ranks is off the diagonal, over the 95 % band.
plot_ranks <- function(found, file, ranks = 200) {
  quantities <- c(growth_parameters, "P")
  steps <- seq_len(ranks - 1)
  places <- steps / ranks
  band <- ecdf_band(nrow(found), 0.95, places)
  grDevices::svg(file, width = 9, height = 4.5)
  on.exit(grDevices::dev.off())
  graphics::par(mfrow = c(2, 4), mar = c(3.2, 4.6, 2, 0.6), mgp = c(2, 0.7, 0), las = 1)
  for (name in quantities) {
    graphics::plot(places, band, type = "n", ylim = c(-1.6, 1.6) * max(band), main = name,
                   xlab = sprintf("rank of the truth / %d", ranks), ylab = "")
    graphics::mtext("ECDF less the uniform", side = 2, line = 3.3, las = 0, cex = 0.66)
    graphics::polygon(c(places, rev(places)), c(band, -rev(band)), col = "grey88", border = NA)
    off <- stats::ecdf(found[[name]] + 1)(steps) - places
    graphics::lines(places, off, col = "steelblue", lwd = 2)
  }
}

if (sys.nframe() == 0L) {
  script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
  service_dir <- dirname(normalizePath(script))
  for (file in list.files(file.path(service_dir, "R"), pattern = "[.]R$", full.names = TRUE)) source(file)
  suppressPackageStartupMessages(library(rstan))
  arguments <- commandArgs(TRUE)
  given <- min(length(arguments), 4)
  n <- replace(c(fits = 200, seed = 1, chains = 4, iterations = 1000), seq_len(given),
               suppressWarnings(as.integer(arguments[seq_len(given)])))
  if (anyNA(n)) stop("Usage: sbc.R [FITS [SEED [CHAINS [ITERATIONS [PICTURE.svg]]]]]", call. = FALSE)
  found <- sbc(n[["fits"]], load_model("growth_marginal", service_dir), n[["seed"]],
               n_chains = n[["chains"]], n_samples = n[["iterations"]])
  utils::write.csv(found, row.names = FALSE)
  if (length(arguments) > 4) plot_ranks(found, arguments[5], rank_values(n[["chains"]], n[["iterations"]]))
}
