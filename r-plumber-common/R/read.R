# Reading: parsed JSON (lists, as of jsonlite without simplification) -> R values; every fault with its path.
# Positions in paths count from 0, as in JSON: `visits.gap_days[3]` is the fourth value.

issue_log <- function(limit = 50L) {
  found <- list()
  list(
    add = function(field, message) {
      if (length(found) < limit) found[[length(found) + 1L]] <<- list(field = field, message = message)
      invisible(NULL)
    },
    found = function() found
  )
}

child <- function(path, name) if (nzchar(path)) paste0(path, ".", name) else name

is_object <- function(x) is.list(x) && !is.null(names(x))
is_array <- function(x) is.list(x) && is.null(names(x))

#' Reads one value. Faults go to `issues`; the result is then of no use.
read_value <- function(spec, x, path, issues) UseMethod("read_value")

#' Reads a list of scalars as one typed vector, nulls as NA. `at(i)` is the path of position i (from 1).
read_values <- function(spec, xs, at, issues) UseMethod("read_values")

read_value.spec_scalar <- function(spec, x, path, issues) {
  read_scalars(spec, list(x), function(i) path, issues)
}

read_value.spec_optional <- function(spec, x, path, issues) {
  if (is.null(x)) spec$default else read_value(spec$inner, x, path, issues)
}

read_value.spec_nullable <- function(spec, x, path, issues) {
  if (inherits(spec, "spec_scalar")) return(NextMethod())
  if (is.null(x)) NULL else read_value(spec$inner, x, path, issues)
}

read_value.spec_record <- function(spec, x, path, issues) {
  if (!is_object(x)) return(issues$add(path, "must be an object"))
  check_names(x, spec$fields, path, issues, extra = FALSE)
  out <- list()
  for (name in names(spec$fields)) {
    field <- spec$fields[[name]]
    if (!name %in% names(x) && !inherits(field, "spec_optional")) {
      issues$add(child(path, name), "is required")
    } else {
      out[name] <- list(read_value(field, x[[name]], child(path, name), issues))
    }
  }
  out
}

read_value.spec_columns <- function(spec, x, path, issues) {
  if (!is_object(x)) return(issues$add(path, "must be an object of arrays"))
  check_names(x, spec$fields, path, issues, extra = !is.null(spec$extra))
  left_out <- Filter(function(field) inherits(field, "spec_optional"), spec$fields)
  left_out <- left_out[vapply(names(left_out), function(name) is.null(x[[name]]), NA)]
  fields <- spec$fields[setdiff(names(spec$fields), names(left_out))]
  if (!is.null(spec$extra)) {
    extra <- setdiff(names(x), names(spec$fields))
    fields <- c(fields, stats::setNames(rep(list(spec$extra), length(extra)), extra))
  }
  out <- list()
  for (name in names(fields)) {
    where <- child(path, name)
    if (!name %in% names(x)) {
      issues$add(where, "is required")
    } else if (!is_array(x[[name]])) {
      issues$add(where, "must be an array")
    } else {
      field <- if (inherits(fields[[name]], "spec_optional")) fields[[name]]$inner else fields[[name]]
      out[[name]] <- read_scalars(field, x[[name]], function(i) sprintf("%s[%d]", where, i - 1L), issues)
    }
  }
  n <- check_rows(spec, lengths(Filter(is_array, x[intersect(names(fields), names(x))])), path, issues)
  if (length(issues$found())) return(NULL)
  for (name in names(left_out)) {
    if (!is.null(left_out[[name]]$default)) out[[name]] <- rep(left_out[[name]]$default, n)
  }
  structure(out, class = "data.frame", row.names = .set_row_names(n))
}

check_rows <- function(spec, rows, path, issues) {
  if (length(unique(rows)) > 1L) {
    given <- paste(utils::head(sprintf("%s: %d", names(rows), rows), 5L), collapse = ", ")
    issues$add(path, paste0("columns must be equally long, but have ", given, " values"))
    return(0L)
  }
  n <- if (length(rows)) rows[[1L]] else 0L
  check_count(n, spec$min_rows, spec$max_rows, "rows", path, issues)
  n
}

check_count <- function(n, least, most, what, path, issues) {
  if (n < least) issues$add(path, sprintf("must have at least %d %s, but has %d", least, what, n))
  if (n > most) issues$add(path, sprintf("must have at most %.0f %s, but has %d", most, what, n))
}

read_value.spec_array <- function(spec, x, path, issues) {
  if (!is_array(x)) return(issues$add(path, "must be an array"))
  check_count(length(x), spec$min_items, spec$max_items, "items", path, issues)
  at <- function(i) sprintf("%s[%d]", path, i - 1L)
  if (inherits(spec$inner, "spec_scalar")) return(read_scalars(spec$inner, x, at, issues))
  lapply(seq_along(x), function(i) read_value(spec$inner, x[[i]], at(i), issues))
}

read_value.spec_dictionary <- function(spec, x, path, issues) {
  if (!is_object(x)) return(issues$add(path, "must be an object"))
  check_names(x, list(), path, issues, extra = TRUE)
  out <- lapply(unique(names(x)), function(name) read_value(spec$inner, x[[name]], child(path, name), issues))
  stats::setNames(out, unique(names(x)))
}

check_names <- function(x, fields, path, issues, extra) {
  for (name in unique(names(x)[duplicated(names(x))])) {
    issues$add(child(path, name), "is given more than once")
  }
  known <- paste(names(fields), collapse = ", ")
  for (name in if (!extra) setdiff(names(x), names(fields))) {
    issues$add(child(path, name), paste("is not known here; known are:", known))
  }
}

# Nulls are taken out before, and put back as NA after, so that each read_values() sees proper values only.
read_scalars <- function(spec, xs, at, issues) {
  may_be_null <- inherits(spec, "spec_nullable")
  if (may_be_null) spec <- spec$inner
  empty <- lengths(xs) == 0L
  if (!any(empty)) return(read_values(spec, xs, at, issues))
  null <- empty
  null[empty] <- vapply(xs[empty], is.null, NA)
  if (!may_be_null) for (i in utils::head(which(null), 50L)) issues$add(at(i), "must not be null")
  kept <- which(!null)
  values <- read_values(spec, xs[kept], function(i) at(kept[i]), issues)
  if (length(values) != length(kept)) return(NULL)
  values[replace(rep(NA_integer_, length(xs)), kept, seq_along(kept))]
}

note_all <- function(bad, at, message, issues) {
  for (i in utils::head(which(bad), 50L)) issues$add(at(i), message)
}

# The vector of `xs` where all are of the type that `is_type` knows, else NULL, and an issue for each other.
typed <- function(xs, is_type, empty, message, at, issues) {
  ok <- vapply(xs, is_type, NA)
  if (!all(ok)) return(note_all(!ok, at, message, issues))
  if (length(xs)) unlist(xs, use.names = FALSE) else empty
}

read_values.spec_string <- function(spec, xs, at, issues) {
  values <- typed(xs, is.character, character(), "must be a string", at, issues)
  long <- nchar(values, "chars") > spec$max_length
  note_all(long, at, sprintf("must be at most %d characters long", spec$max_length), issues)
  values
}

read_values.spec_number <- function(spec, xs, at, issues) {
  values <- typed(xs, is.numeric, numeric(), "must be a number", at, issues)
  if (is.null(values)) return(NULL)
  values <- as.double(values)
  note_all(!is.finite(values), at, "must be a finite number", issues)
  note_all(is.finite(values) & abs(values) > largest, at, "must be no larger than 1e50 in size", issues)
  check_range(values, spec, at, issues)
}

read_values.spec_integer <- function(spec, xs, at, issues) {
  values <- typed(xs, is.numeric, numeric(), "must be a whole number", at, issues)
  if (is.null(values)) return(NULL)
  whole <- is.finite(values) & values == round(values)
  note_all(!whole, at, "must be a whole number", issues)
  values <- check_range(values, spec, at, issues)
  if (all(whole & abs(values) <= .Machine$integer.max)) as.integer(values) else NULL
}

read_values.spec_boolean <- function(spec, xs, at, issues) {
  typed(xs, is.logical, logical(), "must be true or false", at, issues)
}

read_values.spec_choice <- function(spec, xs, at, issues) {
  message <- paste("must be one of", paste(encode_choices(spec$values), collapse = ", "))
  is_type <- if (is.character(spec$values)) is.character else is.numeric
  values <- typed(xs, is_type, spec$values[0L], message, at, issues)
  note_all(!values %in% spec$values, at, message, issues)
  values
}

read_values.spec_date <- function(spec, xs, at, issues) {
  message <- "must be a date written YYYY-MM-DD"
  values <- typed(xs, is.character, character(), message, at, issues)
  if (is.null(values)) return(NULL)
  days <- as.Date(values, format = "%Y-%m-%d", optional = TRUE)
  wrong <- is.na(days) | !grepl("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", values)
  note_all(wrong, at, message, issues)
  days
}

encode_choices <- function(values) {
  if (is.character(values)) dQuote(values, FALSE) else format(values, trim = TRUE)
}

check_range <- function(values, spec, at, issues) {
  note_all(values < spec$min, at, paste("must be at least", format(spec$min)), issues)
  note_all(values > spec$max, at, paste("must be at most", format(spec$max)), issues)
  note_all(values <= spec$above, at, paste("must be greater than", format(spec$above)), issues)
  values
}
