# Counters in the Prometheus text format, version 0.0.4.

fit_buckets <- c(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)

gauge_helps <- c(
  seed_queue_length = "Fits that wait for a worker.",
  seed_workers_busy = "Workers that are fitting now.",
  seed_workers = "Workers that are warm.",
  seed_worker_restarts_total = "Workers replaced after they died or passed the deadline.",
  seed_ready = "1 where the service may be sent fits."
)

#' @param fit_routes paths of the fits.
new_metrics <- function(service, fit_routes) {
  requests <- list()
  fits <- list()

  count_request <- function(method, route, status, n = 1) {
    key <- paste(method, route, status)
    labels <- c(method = method, route = route, status = status)
    requests[[key]] <<- list(labels = labels, n = (requests[[key]]$n %||% 0) + n)
  }

  # What alerts count starts at 0: increase() does not see a series that begins with 1.
  for (route in fit_routes) for (status in c(200L, 500L, 503L)) count_request("POST", route, status, n = 0)

  observe_fit <- function(route, secs) {
    seen <- fits[[route]] %||% list(buckets = 0 * fit_buckets, sum = 0, n = 0)
    buckets <- seen$buckets + (secs <= fit_buckets)
    fits[[route]] <<- list(buckets = buckets, sum = seen$sum + secs, n = seen$n + 1)
  }

  sample_line <- function(name, labels, value) {
    labels <- c(service = service, labels)
    written <- paste0(names(labels), "=\"", gsub("([\"\\\\])", "\\\\\\1", labels), "\"", collapse = ",")
    sprintf("%s{%s} %s", name, written, format(value, digits = 15, scientific = FALSE, trim = TRUE))
  }

  head_lines <- function(name, type, help) {
    c(sprintf("# HELP %s %s", name, help), sprintf("# TYPE %s %s", name, type))
  }

  histogram <- function(route, seen) {
    name <- "seed_fit_seconds"
    c(
      vapply(seq_along(fit_buckets), function(i) {
        sample_line(paste0(name, "_bucket"), c(route = route, le = format(fit_buckets[i])), seen$buckets[i])
      }, ""),
      sample_line(paste0(name, "_bucket"), c(route = route, le = "+Inf"), seen$n),
      sample_line(paste0(name, "_sum"), c(route = route), seen$sum),
      sample_line(paste0(name, "_count"), c(route = route), seen$n)
    )
  }

  expose <- function(gauges) {
    lines <- c(
      head_lines("seed_http_requests_total", "counter", "Requests by route and status."),
      vapply(requests, function(r) {
        sample_line("seed_http_requests_total", r$labels, r$n)
      }, ""),
      head_lines("seed_fit_seconds", "histogram", "Time of a fit in its worker."),
      unlist(lapply(names(fits), function(route) histogram(route, fits[[route]]))),
      unlist(lapply(names(gauge_helps), function(name) {
        type <- if (endsWith(name, "_total")) "counter" else "gauge"
        c(head_lines(name, type, gauge_helps[[name]]), sample_line(name, character(), gauges[[name]]))
      }))
    )
    paste0(paste(lines, collapse = "\n"), "\n")
  }

  list(count_request = count_request, observe_fit = observe_fit, expose = expose)
}
