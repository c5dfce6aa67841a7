# How often ordinary weeks are called anomalies, how often planted ones are found, and how often the next
# week is inside its interval, by Prophet and all that is around it.
#
#   Rscript r-forecast-plumber/grid.R [SERIES [SEED]] > grid.csv
#
# A series is a line with normal noise of sd .02 around it; a planted week, at a random place, is `off` sd
# away.

grid <- expand.grid(off = c(0, 5, 8, 12, 20), n_weeks = c(8, 12, 26, 52, 104))

#' A row of the table: `ordinary` weeks and how many of them are `false_alarms`; `planted` weeks and how many
#' of them are `found`; how many of the weeks `ahead` are `covered` by their interval at `level`.
judge <- function(n_weeks, off, n_series, level = 0.8) {
  sd <- 0.02
  seen <- vapply(seq_len(n_series), function(i) {
    value <- 0.3 + 0.004 * seq_len(n_weeks + 1) + stats::rnorm(n_weeks + 1, 0, sd)
    at <- sample.int(n_weeks, 1)
    value[at] <- value[at] + sample(c(-1, 1), 1) * off * sd
    body <- list(
      metric = "I_t", forecast_weeks = 1L, anomaly_threshold = 2.5, n_samples = 100L, seed = 1L,
      weeks = data.frame(
        week_start = as.Date("2023-01-02") + 7 * (seq_len(n_weeks) - 1), value = value[seq_len(n_weeks)]
      )
    )
    fit <- fit_prophet(body)
    odd <- fit$history$anomaly
    ordinary <- if (off == 0) odd else odd[-at]
    # the interval at another level is as much narrower as the quantiles of the same t distribution say
    df <- spread_df(fit$metrics$n_weeks)
    narrower <- stats::qt((1 + level) / 2, df) / stats::qt(stats::pnorm(2.5), df)
    half <- narrower * (fit$forecast$upper - fit$forecast$lower) / 2
    c(sum(ordinary), length(ordinary), odd[at], abs(value[n_weeks + 1] - fit$forecast$yhat) <= half)
  }, numeric(4))
  data.frame(
    n_weeks = n_weeks, off = off, ordinary = sum(seen[2, ]), false_alarms = sum(seen[1, ]),
    planted = if (off) n_series else 0, found = if (off) sum(seen[3, ]) else 0,
    ahead = n_series, covered = sum(seen[4, ])
  )
}

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
service_dir <- dirname(normalizePath(script))
suppressPackageStartupMessages(library(prophet))
for (file in list.files(file.path(service_dir, "R"), pattern = "[.]R$", full.names = TRUE)) source(file)
arguments <- commandArgs(TRUE)
n_series <- if (length(arguments) > 0) as.integer(arguments[1]) else 100
set.seed(if (length(arguments) > 1) as.integer(arguments[2]) else 1)
rows <- lapply(seq_len(nrow(grid)), function(i) judge(grid$n_weeks[i], grid$off[i], n_series))
utils::write.csv(do.call(rbind, rows), row.names = FALSE)
