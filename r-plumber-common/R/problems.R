# Errors as RFC 9457 problem documents.

problem_types <- data.frame(
  row.names = c(
    "bad-json", "invalid", "unfittable", "unauthorized", "too-large", "unsupported-media-type", "not-found",
    "method-not-allowed", "busy", "unavailable", "timeout", "internal"
  ),
  status = c(400L, 422L, 422L, 401L, 413L, 415L, 404L, 405L, 503L, 503L, 503L, 500L),
  title = c(
    "The body is not JSON", "The request is not as declared", "The data cannot be fitted", "Not authorised",
    "The body is too large", "The media type is not supported", "There is nothing here",
    "The method is not allowed", "Not ready for this request", "Something that this request needs is missing",
    "The fit took too long", "Something unforeseen failed"
  )
)

problem_spec <- function() {
  record(
    type = string(), title = string(), status = integer(400, 599), detail = string(),
    errors = optional(array_of(record(field = string(), message = string())))
  )
}

#' A problem document.
#' @param type a row name of `problem_types`.
#' @param detail a sentence: what was wrong and what to do.
#' @param errors list of list(field, message), for type "invalid".
problem <- function(type, detail, errors = NULL) {
  kind <- problem_types[type, ]
  body <- list(
    type = paste0("urn:seed-analytics:problem:", type), title = kind$title, status = kind$status,
    detail = detail, errors = errors
  )
  list(status = kind$status, body = as.character(to_json(write_value(problem_spec(), body))))
}

#' Ends a model function: these data cannot be fitted (422).
#' @param detail a sentence that says why, in words for the caller.
abort_unfittable <- function(detail) {
  stop(errorCondition(detail, class = "seedplumber_unfittable", call = NULL))
}

#' Ends a model function: this service lacks what the request needs, such as a compiled model (503).
#' @param detail a sentence that says what, and how it is made.
abort_unavailable <- function(detail) {
  stop(errorCondition(detail, class = "seedplumber_unavailable", call = NULL))
}

#' Ends a model function: a field breaks a rule that its spec cannot express (422), such as the order of rows.
#' @param field path of the field, as in `weeks.week_start[3]` (positions from 0).
#' @param message what the field must be.
abort_invalid <- function(field, message) {
  detail <- paste(field, message)
  stop(errorCondition(detail, field = field, reason = message, class = "seedplumber_invalid", call = NULL))
}
