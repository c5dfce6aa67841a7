# Writing: R values -> a tree that jsonlite writes as the spec says: scalars bare, columns always arrays.

#' What `to_json()` is to write for `x`; an error where `x` is not what the spec declares.
write_value <- function(spec, x, path = "") UseMethod("write_value")

mismatch <- function(path, message) stop(sprintf("the reply's field '%s' %s", path, message), call. = FALSE)

write_value.spec_scalar <- function(spec, x, path = "") {
  if (!is.atomic(x) || length(x) != 1L) mismatch(path, "must be one value")
  jsonlite::unbox(write_vector(spec, x, path))
}

write_value.spec_nullable <- function(spec, x, path = "") {
  if (is.null(x)) return(NULL)
  if (inherits(spec, "spec_scalar")) NextMethod() else write_value(spec$inner, x, path)
}

write_value.spec_optional <- function(spec, x, path = "") write_value(spec$inner, x, path)

write_value.spec_record <- function(spec, x, path = "") {
  if (!is.list(x)) mismatch(path, "must be a list")
  unknown <- setdiff(names(x), names(spec$fields))
  if (length(unknown)) mismatch(child(path, unknown[1L]), "is not declared")
  out <- list()
  for (name in names(spec$fields)) {
    field <- spec$fields[[name]]
    if (name %in% names(x)) {
      if (is.null(x[[name]]) && inherits(field, "spec_optional")) next
      out[name] <- list(write_value(field, x[[name]], child(path, name)))
    } else if (!inherits(field, "spec_optional")) {
      mismatch(child(path, name), "is missing")
    }
  }
  if (length(out)) out else stats::setNames(out, character())
}

write_value.spec_columns <- function(spec, x, path = "") {
  if (!is.list(x)) mismatch(path, "must be a data frame")
  unknown <- if (is.null(spec$extra)) setdiff(names(x), names(spec$fields))
  if (length(unknown)) mismatch(child(path, unknown[1L]), "is not declared")
  required <- names(spec$fields)[!vapply(spec$fields, inherits, NA, "spec_optional")]
  missing <- setdiff(required, names(x))
  if (length(missing)) mismatch(child(path, missing[1L]), "is missing")
  x <- as.list(x)
  if (length(unique(lengths(x))) > 1L) mismatch(path, "has columns of unequal length")
  out <- lapply(names(x), function(name) {
    field <- if (name %in% names(spec$fields)) spec$fields[[name]] else spec$extra
    write_vector(field, x[[name]], child(path, name))
  })
  stats::setNames(out, names(x))
}

write_value.spec_array <- function(spec, x, path = "") {
  if (inherits(spec$inner, "spec_scalar")) return(write_vector(spec$inner, x, path))
  lapply(unname(x), function(item) write_value(spec$inner, item, path))
}

write_value.spec_dictionary <- function(spec, x, path = "") {
  out <- lapply(x, function(item) write_value(spec$inner, item, path))
  if (length(out)) out else stats::setNames(list(), character())
}

# Values of a scalar spec. JSON has null for what has no value, and for what is infinite: only where the spec
# says so, lest it be published.
write_vector <- function(spec, x, path) {
  if (is.null(x)) return(list())
  if (inherits(spec, "spec_optional")) spec <- spec$inner
  if (!inherits(spec, "spec_nullable") && (anyNA(x) || (is.numeric(x) && any(is.infinite(x))))) {
    mismatch(path, "has no finite value where it must have one")
  }
  if (is.factor(x) || inherits(x, "Date")) as.character(x) else unname(c(x))
}

#' JSON at full precision; NA, NaN and infinities as null.
to_json <- function(tree) {
  jsonlite::toJSON(tree, na = "null", null = "null", digits = NA, dataframe = "columns", auto_unbox = FALSE)
}
