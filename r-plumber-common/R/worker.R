# What runs in a worker process, called by the pool. A worker holds the service with its models.

# Fits yield to the HTTP process, which answers in milliseconds, and get all that it leaves.
worker_niceness <- 10L

# R lets garbage grow until a heap is full that it sized, generously, while packages loaded: Prophet's first
# fit would add 90 MB to the 214 of its worker, for good. Collected after so many allocations, fits add
# nothing, and take no longer.
allocations_a_collection <- 500000L

worker_state <- new.env(parent = emptyenv())

worker_start <- function(dir) {
  offer_to_oom_killer()
  leave_stan_compiler_out()
  loadNamespace("jsonlite") # which every answer uses
  worker_state$service <- load_service(dir)
  warm <- worker_state$service$warm
  if (!is.null(warm)) worker_state$service$models[[warm]]()
  gctorture2(step = allocations_a_collection)
  tools::psnice(value = worker_niceness)
  TRUE
}

#' Where memory runs out, the kernel ends a worker, whose fit alone fails, and not the HTTP process, which may
#' be as large. Every process may raise its own score; where there is no /proc to write to, nothing happens.
offer_to_oom_killer <- function() {
  score <- "/proc/self/oom_score_adj"
  if (file.access(score, mode = 2L) == 0L) writeLines("1000", score)
}

#' Answers the request in `body_file`.
#' @return list(status, log), with the reply's body in `reply_file`; or list(problem, log) where the disk has
#'   no room for it.
worker_answer <- function(path, body_file, reply_file) {
  reply <- answer(worker_state$service, path, readBin(body_file, "raw", file.size(body_file)))
  bytes <- charToRaw(reply$body)
  suppressWarnings(writeBin(bytes, reply_file))
  if (has_size(reply_file, length(bytes))) return(list(status = reply$status, log = reply$log))
  unlink(reply_file)
  list(problem = no_room(), log = reply$log %||% paste0(path, ": the disk has no room for the reply"))
}

#' Keeps rstan from reading the Stan compiler into a JavaScript engine when it is loaded: some 90 MB in every
#' worker, and here every model comes compiled. Where there is no QuickJSR, rstan does not use it.
leave_stan_compiler_out <- function() {
  if (!requireNamespace("QuickJSR", quietly = TRUE)) return(invisible())
  engine <- list(
    source = function(...) invisible(),
    call = function(...) stop("A worker compiles no Stan model: see r-brms-plumber/compile.R.", call. = FALSE)
  )
  utils::assignInNamespace("JSContext", list(new = function(...) engine), "QuickJSR")
}
