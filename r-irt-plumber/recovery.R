# How well items are recovered, by how many learners there are and how many answers each has given.
#
#   Rscript r-irt-plumber/recovery.R [REPLICATIONS [SEED [MODELS [PICTURE.svg]]]] > recovery.csv
#
# Truth: 50 items, log a ~ N(0, sd_log_a), b ~ N(0, 1), abilities N(0, 1); each learner answers items drawn at
# random. MODELS, comma-separated: 2PL, 1PL, and 2PL+prior, which is what the stage fits unless told otherwise
# (MIRT_PRIOR_A_SDLOG), with items that differ less than the prior says, and as much.

default_prior <- list(meanlog = 0, sdlog = 0.5)
cells_of <- function(model, sd_log_a) {
  expand.grid(
    n_users = c(400, 800, 3000), n_each = c(10, 25), model = model, sd_log_a = sd_log_a,
    stringsAsFactors = FALSE
  )
}
grid <- rbind(cells_of("2PL+prior", c(0.3, default_prior$sdlog)), cells_of("2PL", 0.3), cells_of("1PL", 0))

#' One simulated calibration: a data frame of true and estimated items, and the share of abilities covered.
recover <- function(n_users, n_each, model, sd_log_a, seed) {
  simulated <- simulate_answers(n_users, 50, n_each, seed, a = exp(stats::rnorm(50, 0, sd_log_a)))
  prior <- if (model == "2PL+prior") default_prior
  fit <- calibrate(simulated$responses, sub("[+].*", "", model), prior_a = prior)
  ability <- simulated$theta[as.integer(substring(fit$abilities$user_id, 2))]
  found <- merge(simulated$items, fit$items, by = "item_id", suffixes = c("_true", ""))
  found$theta_covered <- mean(abs(fit$abilities$theta - ability) <= stats::qnorm(.975) * fit$abilities$se)
  found
}

#' A row of the table: bias, root mean square error and coverage of 95 % intervals over all replications.
judge <- function(cell, replications, seed) {
  found <- do.call(rbind, lapply(seq_len(replications), function(i) {
    recover(cell$n_users, cell$n_each, cell$model, cell$sd_log_a, seed * 1000 + i)
  }))
  inside <- function(estimate, truth, se) mean(abs(estimate - truth) <= stats::qnorm(.975) * se)
  with(found, data.frame(
    cell, answers_an_item = cell$n_users * cell$n_each / 50, fitted = nrow(found) / (50 * replications),
    bias_a = mean(a - a_true), rmse_a = sqrt(mean((a - a_true)^2)), coverage_a = inside(a, a_true, se_a),
    bias_b = mean(b - b_true), rmse_b = sqrt(mean((b - b_true)^2)), coverage_b = inside(b, b_true, se_b),
    coverage_theta = mean(theta_covered)
  ))
}

#' Draws estimates against the truth with their 95 % intervals, and curves of items beside the true ones.
plot_recovery <- function(found, file) {
  grDevices::svg(file, width = 10.5, height = 4)
  on.exit(grDevices::dev.off())
  graphics::par(mfrow = c(1, 3), mar = c(4, 4, 2, 1), mgp = c(2.4, 0.7, 0), las = 1, cex = 0.9)
  against <- function(truth, estimate, se, name) {
    low <- estimate - stats::qnorm(.975) * se
    high <- estimate + stats::qnorm(.975) * se
    graphics::plot(truth, estimate, ylim = range(low, high), pch = 19, col = "steelblue", main = name,
                   xlab = "true", ylab = "estimated, 95 % interval")
    graphics::segments(truth, low, truth, high, col = "steelblue")
    graphics::abline(0, 1, lty = 2, col = "grey50")
  }
  against(found$b_true, found$b, found$se_b, "difficulty b")
  against(found$a_true, found$a, found$se_a, "discrimination a")
  theta <- seq(-4, 4, 0.05)
  shown <- found[order(found$b_true)[c(3, 17, 34, 48)], ]
  colours <- c("steelblue", "darkorange", "seagreen", "firebrick")
  graphics::plot(NA, xlim = range(theta), ylim = c(0, 1), main = "four items", xlab = "ability",
                 ylab = "chance of a right answer")
  for (i in 1:4) {
    graphics::lines(theta, stats::plogis(shown$a[i] * (theta - shown$b[i])), col = colours[i], lwd = 2)
    truth <- stats::plogis(shown$a_true[i] * (theta - shown$b_true[i]))
    graphics::lines(theta, truth, col = colours[i], lty = 2)
  }
  graphics::legend("topleft", c("estimated", "true"), lty = 1:2, lwd = 2:1, bty = "n")
}

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
service_dir <- dirname(normalizePath(script))
suppressPackageStartupMessages(library(Matrix))
for (file in list.files(file.path(service_dir, "R"), pattern = "[.]R$", full.names = TRUE)) source(file)
source(file.path(service_dir, "tests", "testthat", "helper-data.R"))
arguments <- commandArgs(TRUE)
replications <- if (length(arguments) > 0) as.integer(arguments[1]) else 12
seed <- if (length(arguments) > 1) as.integer(arguments[2]) else 1
models <- if (length(arguments) > 2) strsplit(arguments[3], ",")[[1]] else c("2PL", "1PL")
grid <- grid[grid$model %in% models, ]
cells <- split(grid, seq_len(nrow(grid)))
utils::write.csv(do.call(rbind, lapply(cells, judge, replications, seed)), row.names = FALSE)
if (length(arguments) > 3) plot_recovery(recover(800, 25, "2PL", 0.3, seed), arguments[4])
