# Settings come from the environment alone.

config_error <- function(...) {
  stop(errorCondition(paste0(...), class = "seedplumber_config_error", call = NULL))
}

`%||%` <- function(x, y) if (is.null(x)) y else x

whole_number <- function(env, name, default, min, max = 2^31 - 1) {
  text <- trimws(env[[name]] %||% "")
  if (!nzchar(text)) return(default)
  value <- suppressWarnings(as.numeric(text))
  if (is.na(value) || value != round(value) || value < min || value > max) {
    config_error(sprintf("%s must be a whole number from %.0f to %.0f, but is '%s'.", name, min, max, text))
  }
  value
}

one_of <- function(env, name, values) {
  text <- tolower(trimws(env[[name]] %||% ""))
  if (!nzchar(text)) return(values[1L])
  if (!text %in% values) {
    config_error(sprintf("%s must be one of %s, but is '%s'.", name, paste(values, collapse = ", "), text))
  }
  text
}

read_settings <- function(env = as.list(Sys.getenv())) {
  token <- trimws(env[["INTERNAL_TOKEN"]] %||% "")
  anonymous <- one_of(env, "ALLOW_ANONYMOUS", c("false", "true")) == "true"
  if (!nzchar(token) && !anonymous) {
    config_error(
      "INTERNAL_TOKEN is empty: set it to the token that callers send, ",
      "or set ALLOW_ANONYMOUS=true to serve without one."
    )
  }
  host <- trimws(env[["HOST"]] %||% "")
  list(
    host = if (nzchar(host)) host else "127.0.0.1",
    port = whole_number(env, "PORT", 8080, 0, 65535),
    token = token,
    workers = whole_number(env, "WORKERS", 1, 1, 64),
    queue_length = whole_number(env, "QUEUE_LENGTH", 4, 0, 10000),
    max_body_bytes = whole_number(env, "MAX_BODY_BYTES", 100 * 1024^2, 1, 2^40),
    fit_timeout_secs = whole_number(env, "FIT_TIMEOUT_SECS", 1200, 1),
    shutdown_grace_secs = whole_number(env, "SHUTDOWN_GRACE_SECS", 30, 0),
    log_format = one_of(env, "LOG_FORMAT", c("json", "plain"))
  )
}
