# Persistent worker processes and the bounded queue before them. Nothing here waits: `tick()` looks at what
# the workers have reported, and sets itself again through `later`, so that the HTTP loop runs in between.

busy_interval <- 0.01 # seconds between looks while a worker has something under way
idle_interval <- 0.5
longest_pause <- 30 # seconds before a worker that keeps dying at its start is tried again
unforeseen <- "The fit failed; the service's log says why."

#' @param dir the service's folder.
#' @param size number of workers.
#' @param queue_length number of fits that may wait.
#' @param timeout_secs seconds that a fit may take.
#' @param log a logger.
#' @param observe_fit called with (route, seconds) after each fit.
#' @param heap_cells see `service()`.
worker_pool <- function(dir, size, queue_length, timeout_secs, log, observe_fit, heap_cells = NULL) {
  new_worker <- function(i) list2env(list(state = "down", pause = timer(0)), parent = emptyenv())
  workers <- lapply(seq_len(size), new_worker)
  queue <- list()
  restarts <- 0
  closed <- FALSE
  cancel_tick <- function() NULL

  # A worker is starting (R comes up), warming (loads its models), idle, busy or down (for a `pause`).
  spawn <- function(worker) {
    worker$session <- NULL # a dead one, whose successor may fail to start
    worker$folder <- tempfile("worker-")
    dir.create(worker$folder)
    options <- callr::r_session_options(
      extra = list(supervise = TRUE), # callr's own option does not reach the process of a session
      system_profile = FALSE, user_profile = FALSE
    )
    options$env <- c(options$env, TMPDIR = worker$folder, R_NSIZE = heap_cells)
    worker$session <- callr::r_session$new(options, wait = FALSE)
    worker$state <- "starting"
  }

  kill <- function(worker) {
    try(worker$session$kill_tree(), silent = TRUE)
    unlink(worker$folder, recursive = TRUE) # a killed process leaves its temporary files
  }

  bury <- function(worker, why) {
    log(event = "worker_lost", state = worker$state, detail = why)
    kill(worker)
    worker$failures <- if (worker$state == "busy") 0 else (worker$failures %||% 0) + 1
    worker$pause <- timer(if (worker$failures == 0) 0 else min(longest_pause, 2^(worker$failures - 1)))
    worker$state <- "down"
    restarts <<- restarts + 1
  }

  finish <- function(worker, reply) {
    force(reply) # it may name a file of the job that is now taken off the worker
    job <- worker$job
    worker$job <- NULL
    worker$deadline$cancel()
    unlink(job$body_file)
    observe_fit(job$path, since(worker$started))
    job$resolve(reply)
  }

  # `why` is for the log, `detail` for the caller.
  fail <- function(worker, type, detail, why = detail) {
    bury(worker, why)
    unlink(worker$job$reply_file)
    finish(worker, problem(type, detail))
  }

  call_worker <- function(worker, state, func, args) {
    worker$session$call(func, args)
    worker$state <- state
  }

  hear <- function(worker) {
    message <- worker$session$read()
    if (is.null(message)) return()
    if (message$code >= 500L) {
      died(worker, message)
    } else if (message$code == 201L) {
      call_worker(worker, "warming", function(dir) getNamespace("seedplumber")$worker_start(dir), list(dir))
    } else if (message$code == 200L && worker$state == "warming") {
      warmed(worker, message)
    } else if (message$code == 200L && worker$state == "busy") {
      answered(worker, message)
    }
  }

  died <- function(worker, message) {
    if (worker$state == "busy") {
      fail(worker, "internal", "The worker process died during the fit (out of memory?).")
    } else {
      bury(worker, message$message)
    }
  }

  warmed <- function(worker, message) {
    if (is.null(message$error)) {
      worker$state <- "idle"
      worker$failures <- 0
      log(event = "worker_warm", pid = worker$session$get_pid())
    } else {
      bury(worker, paste("it could not load the models:", root_message(message$error)))
    }
  }

  answered <- function(worker, message) {
    worker$state <- "idle"
    result <- message$result
    what <- if (is.null(message$error)) result$log else root_message(message$error)
    if (!is.null(what)) log(event = "fit_failed", detail = what, output = tail_text(message$stderr))
    if (is.null(message$error)) {
      finish(worker, result$problem %||% list(status = result$status, file = worker$job$reply_file))
    } else {
      unlink(worker$job$reply_file)
      finish(worker, problem("internal", unforeseen))
    }
  }

  dispatch <- function(worker) {
    if (worker$state != "idle" || length(queue) == 0L) return()
    worker$job <- queue[[1L]]
    queue <<- queue[-1L]
    worker$started <- now()
    worker$deadline <- timer(timeout_secs)
    call_worker(
      worker, "busy", function(...) getNamespace("seedplumber")$worker_answer(...),
      list(worker$job$path, worker$job$body_file, worker$job$reply_file)
    )
  }

  look <- function(worker) {
    if (worker$state == "down") {
      if (worker$pause$over()) spawn(worker)
      return()
    }
    if (worker$session$poll_process(0) != "timeout") hear(worker)
    if (worker$state == "busy" && worker$deadline$over()) {
      fail(worker, "timeout", sprintf("The fit took longer than %.0f seconds and was stopped.", timeout_secs))
    }
    dispatch(worker)
  }

  # Trouble with one worker (no process can be started, say) costs that worker: an error that left tick()
  # would end the HTTP process.
  look_or_bury <- function(worker) {
    tryCatch(look(worker), error = function(e) {
      why <- root_message(e)
      if (is.null(worker$job)) bury(worker, why) else fail(worker, "internal", unforeseen, why)
    })
  }

  tick <- function() {
    if (closed) return()
    for (worker in workers) look_or_bury(worker)
    idle <- all(vapply(workers, function(worker) worker$state == "idle", NA))
    cancel_tick <<- later::later(tick, if (idle) idle_interval else busy_interval)
  }

  count <- function(...) sum(vapply(workers, function(worker) worker$state %in% c(...), NA))

  submit <- function(path, body_file) {
    promises::promise(function(resolve, reject) {
      job <- list(path = path, body_file = body_file, reply_file = tempfile(reply_prefix), resolve = resolve)
      queue <<- c(queue, list(job))
      cancel_tick()
      tick()
    })
  }

  close_pool <- function() {
    closed <<- TRUE
    cancel_tick()
    unfinished <- c(lapply(workers, function(worker) worker$job), queue)
    for (worker in workers) kill(worker)
    for (job in Filter(length, unfinished)) {
      job$resolve(problem("busy", "The service stopped before the fit was finished."))
    }
  }

  for (worker in workers) look_or_bury(worker)
  # Awaits the moment that R takes to come up: workers then load their models while the caller loads its
  # own packages.
  for (worker in workers) if (worker$state == "starting") worker$session$poll_process(2000)
  tick()

  list(
    submit = submit,
    has_room = function() length(queue) < queue_length || (length(queue) == 0L && count("idle") > 0L),
    ready = function() count("idle", "busy") > 0L,
    quiet = function() length(queue) == 0L && count("busy") == 0L,
    gauges = function() {
      list(
        seed_queue_length = length(queue), seed_workers_busy = count("busy"),
        seed_workers = count("idle", "busy"), seed_worker_restarts_total = restarts
      )
    },
    close = close_pool
  )
}

#' Seconds, to measure how long something took. This follows the time of day, which may be set: what decides
#' something goes by a `timer()`.
now <- function() proc.time()[["elapsed"]]

#' Seconds since `started`; 0 where the clock was set back meanwhile.
since <- function(started) max(0, now() - started)

#' Tells when so many seconds are over, by a clock that nobody sets; it runs while `later` does. Its wait for
#' events, though, follows the time of day: a clock that is set back within one may delay what is due until
#' the next request, a probe's say.
timer <- function(secs) {
  over <- secs <= 0
  cancel <- later::later(function() over <<- TRUE, secs)
  list(over = function() over, cancel = cancel)
}

root_message <- function(error) {
  while (!is.null(error$parent)) error <- error$parent
  conditionMessage(error)
}

tail_text <- function(text, characters = 2000L) {
  text <- trimws(text %||% "")
  substring(text, max(1L, nchar(text) - characters + 1L))
}
