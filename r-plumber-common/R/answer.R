# From the bytes of a request to the bytes of its reply. Runs in a worker, or directly in a test.

#' Answers one fit request.
#'
#' @param service of `load_service()`, with its models.
#' @param path the route, as in "/survival/fit".
#' @param body raw vector or string: the request's JSON.
#' @return list(status, body): the HTTP status and the reply's JSON; with `log`, a line for the operator,
#'   where something unforeseen failed.
answer <- function(service, path, body) {
  route <- service$routes[[path]]
  tryCatch(
    {
      request <- read_request(route$request, body)
      list(status = 200L, body = fit(service, route, request))
    },
    seedplumber_bad_json = function(e) problem("bad-json", conditionMessage(e)),
    seedplumber_invalid_request = function(e) {
      problem("invalid", "The request is not as declared in /openapi.json.", e$errors)
    },
    seedplumber_invalid = function(e) {
      problem("invalid", paste0(conditionMessage(e), "."), list(list(field = e$field, message = e$reason)))
    },
    seedplumber_unfittable = function(e) problem("unfittable", conditionMessage(e)),
    seedplumber_unavailable = function(e) {
      c(problem("unavailable", conditionMessage(e)), log = paste0(path, ": ", conditionMessage(e)))
    },
    error = function(e) {
      place <- if (is.null(conditionCall(e))) "" else paste0(deparse(conditionCall(e), nlines = 1L)[1L], ": ")
      c(
        problem("internal", unforeseen),
        log = paste0(path, ": ", place, conditionMessage(e))
      )
    }
  )
}

read_request <- function(spec, body) {
  issues <- issue_log()
  request <- read_value(spec, parse_json(body), "", issues)
  if (length(issues$found())) {
    stop(errorCondition("invalid request", errors = issues$found(), class = "seedplumber_invalid_request"))
  }
  request
}

parse_json <- function(body) {
  refuse <- function(...) stop(errorCondition(paste0(...), class = "seedplumber_bad_json"))
  # R strings end at a NUL, so an escaped one would cut ids short without a word.
  nul <- is.raw(body) && (any(body == as.raw(0L)) || length(grepRaw("\\u0000", body, fixed = TRUE)))
  if (nul) refuse("The body holds a NUL character.")
  text <- if (is.raw(body)) rawToChar(body) else body
  Encoding(text) <- "UTF-8"
  if (!validUTF8(text)) refuse("The body is not UTF-8.")
  tryCatch(
    suppressWarnings(jsonlite::parse_json(text, simplifyVector = FALSE)),
    error = function(e) {
      first <- strsplit(conditionMessage(e), "\n", fixed = TRUE)[[1L]][1L]
      refuse("The body is not JSON: ", trimws(first), ".")
    }
  )
}

fit <- function(service, route, request) {
  started <- now()
  set.seed(request$seed)
  heard <- character()
  reply <- withCallingHandlers(
    service$models[[route$fun]](request),
    warning = function(w) {
      heard <<- c(heard, conditionMessage(w))
      invokeRestart("muffleWarning")
    }
  )
  reply$seed <- request$seed
  reply$warnings <- unique(c(as.character(reply$warnings), heard))
  reply$versions <- utils::modifyList(versions(service), as.list(reply$versions))
  reply$elapsed_secs <- since(started)
  as.character(to_json(write_value(route$response, reply)))
}

versions <- function(service) {
  packages <- stats::setNames(nm = service$packages)
  c(
    stats::setNames(list(service$version), service$name),
    list(R = as.character(getRversion())),
    lapply(packages, function(package) as.character(utils::packageVersion(package)))
  )
}
