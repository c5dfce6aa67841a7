# Specifications of JSON values. One spec reads a request (read.R), writes a reply (write.R) and its part of
# the OpenAPI document (openapi.R). `integer()` here masks base's inside this package: write `base::integer`.

spec <- function(kind, ..., scalar = FALSE) {
  structure(list(...), class = c(paste0("spec_", kind), if (scalar) "spec_scalar", "spec"))
}

is_spec <- function(x) inherits(x, "spec")

check_fields <- function(fields) {
  named <- length(fields) == 0L || (!is.null(names(fields)) && all(nzchar(names(fields))))
  if (!named || anyDuplicated(names(fields)) || !all(vapply(fields, is_spec, NA))) {
    stop("fields must be specs with distinct names, as in record(name = string())", call. = FALSE)
  }
  fields
}

#' A string; `max_length` in characters.
string <- function(max_length = 1000L) spec("string", max_length = max_length, scalar = TRUE)

# Of a number in a request, so that squares, and products of several, are finite.
largest <- 1e50

#' A finite number with `min <= x <= max`, and `x > above` where given.
number <- function(min = -Inf, max = Inf, above = -Inf) {
  spec("number", min = min, max = max, above = above, scalar = TRUE)
}

#' A whole number with `min <= x <= max`, at most 32 bits wide.
integer <- function(min = -2147483647, max = 2147483647) {
  spec("integer", min = min, max = max, above = -Inf, scalar = TRUE)
}

#' TRUE or FALSE.
boolean <- function() spec("boolean", scalar = TRUE)

#' One of the given strings, or one of the given whole numbers: `choice("1PL", "2PL")`, `choice(0, 1)`.
choice <- function(...) spec("choice", values = c(...), scalar = TRUE)

#' A calendar date written YYYY-MM-DD; a `Date` in R.
date <- function() spec("date", scalar = TRUE)

#' A value of `inner` or JSON null (`NA` where `inner` is scalar, else `NULL`).
nullable <- function(inner) {
  stopifnot(is_spec(inner))
  spec("nullable", inner = inner, scalar = inherits(inner, "spec_scalar"))
}

#' A field that may be left out, or null: it is then `default`.
optional <- function(inner, default = NULL) {
  stopifnot(is_spec(inner))
  spec("optional", inner = inner, default = default)
}

#' An object with exactly these fields; a named list in R.
record <- function(...) spec("record", fields = check_fields(list(...)))

#' Column vectors of one length, in JSON an object of arrays, in R a data frame.
#'
#' @param ... a scalar spec for each column (`optional(spec)` for one that may be left out).
#' @param .extra spec of columns that are not named here (covariates, say), or NULL to refuse such columns.
#' @param .min_rows,.max_rows least and greatest number of rows.
columns <- function(..., .extra = NULL, .min_rows = 0L, .max_rows = Inf) {
  fields <- check_fields(list(...))
  spec("columns", fields = fields, extra = .extra, min_rows = .min_rows, max_rows = .max_rows)
}

#' An array of `inner` values: a vector in R where `inner` is scalar, else a list.
array_of <- function(inner, min_items = 0L, max_items = Inf) {
  stopifnot(is_spec(inner))
  spec("array", inner = inner, min_items = min_items, max_items = max_items)
}

#' An object with any names whose values are all `inner`; a named list in R.
dictionary <- function(inner) {
  stopifnot(is_spec(inner))
  spec("dictionary", inner = inner)
}
