#' Declares a service: the value of its `api.R`.
#'
#' @param name,version as `/healthz` shows them.
#' @param packages loaded in the worker processes before `R/*.R` is read, and named in `versions` of replies.
#' @param warm name of a function in `R/` (no arguments) that every worker runs once before it takes work.
#' @param heap_cells R's NSIZE in worker processes: about as many cells as loading the packages takes. R's own
#'   is small, and collects garbage again and again meanwhile; a larger one may hold more memory for good.
#' @param health function that returns further fields of `/healthz` (strings); called once, in the HTTP
#'   process.
#' @param routes list of `fit_route()`.
service <- function(name, version, packages = character(), warm = NULL, heap_cells = NULL,
                    health = function() list(), routes) {
  stopifnot(
    is.character(name), length(name) == 1L, is.character(packages), is.null(warm) || is.character(warm),
    is.null(heap_cells) || (is.character(heap_cells) && grepl("^[0-9]+[kM]?$", heap_cells)),
    is.function(health), length(routes) > 0L
  )
  paths <- vapply(routes, `[[`, "", "path")
  stopifnot(!anyDuplicated(paths))
  structure(
    list(
      name = name, version = version, packages = packages, warm = warm, heap_cells = heap_cells,
      health = health,
      routes = stats::setNames(routes, paths)
    ),
    class = "seedplumber_service"
  )
}

#' Declares `POST path`, answered by the model function `fun` of `R/`.
#'
#' The function is called as `fun(body)`, records as lists and columns as data frames, after `set.seed(seed)`.
#' Every request may hold `seed`; every reply also holds `seed`, `warnings` (those that the function raised or
#' returned), `versions` and `elapsed_secs`.
#'
#' @param fun name of the function.
#' @param request,response `record()` specs.
fit_route <- function(path, fun, summary, request, response) {
  stopifnot(startsWith(path, "/"), inherits(request, "spec_record"), inherits(response, "spec_record"))
  request$fields$seed <- optional(integer(min = 0), 20251102L)
  response$fields <- utils::modifyList(response$fields, list(
    seed = integer(), warnings = array_of(string()), versions = dictionary(string()),
    elapsed_secs = number(min = 0)
  ))
  list(path = path, fun = fun, summary = summary, request = request, response = response)
}

#' Reads a service folder: `api.R`, and with `models = TRUE` its packages and `R/*.R` too.
#'
#' Both see the folder's path as `service_dir`.
#'
#' @param dir the service's folder.
#' @return the service; with `models`, its element `models` is the environment of its functions.
load_service <- function(dir, models = TRUE) {
  dir <- normalizePath(dir)
  declaring <- new.env(parent = topenv())
  declaring$service_dir <- dir
  api <- source(file.path(dir, "api.R"), local = declaring, encoding = "UTF-8")$value
  if (!inherits(api, "seedplumber_service")) stop(file.path(dir, "api.R"), " must end in service(...)")
  if (!models) return(api)
  # Loaded and not attached, which for Matrix's methods takes half as long again: models call package::name.
  for (package in api$packages) suppressPackageStartupMessages(loadNamespace(package))
  api$models <- new.env(parent = globalenv())
  api$models$service_dir <- dir
  for (file in model_files(dir)) {
    if (isTRUE(file.mtime(compiled(file)) >= file.mtime(file))) {
      compiler::loadcmp(compiled(file), api$models)
    } else {
      sys.source(file, api$models, keep.source = FALSE)
    }
  }
  lacking <- setdiff(c(vapply(api$routes, `[[`, "", "fun"), api$warm), ls(api$models))
  if (length(lacking)) stop("no function in ", dir, "/R is called ", paste(lacking, collapse = ", "))
  api
}

#' Byte-compiles `R/*.R` of a service folder, as an image's build does, for `load_service()`. Otherwise every
#' worker compiles each function when it has been called twice: a third of a second before it is ready.
#'
#' @param dir the service's folder. What was changed since is read from its source.
compile_models <- function(dir) {
  for (file in model_files(dir)) compiler::cmpfile(file, compiled(file), options = list(suppressAll = TRUE))
}

model_files <- function(dir) sort(list.files(file.path(dir, "R"), "[.][Rr]$", full.names = TRUE))

compiled <- function(file) paste0(file, "c")
