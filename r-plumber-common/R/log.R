utc_now <- function() format(Sys.time(), "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")

#' A logger: `log(event = "started", port = 8080)` writes one line to standard output.
new_log <- function(service, log_format) {
  function(...) {
    entry <- c(list(timestamp = utc_now(), service = service), list(...))
    line <- if (log_format == "json") {
      jsonlite::toJSON(entry, auto_unbox = TRUE, null = "null", digits = 6)
    } else {
      rest <- vapply(entry[-(1:2)], format, "", digits = 6)
      paste(entry$timestamp, service, paste0(names(rest), "=", rest, collapse = " "))
    }
    writeLines(line, stdout())
    flush(stdout())
  }
}
