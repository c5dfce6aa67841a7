# The HTTP process. It looks at heads of requests and moves bytes; bodies are parsed in the workers.

retry_after_secs <- 5
# A refusal of a body up to this size waits until the body has arrived: a connection closed on a client that
# is still sending may lose the reply. Larger ones are refused unread.
small_body_bytes <- 16 * 1024^2
# A body that is coming in is kept in one of R's 128 connections, however long its client takes: from its head
# on, so that they can be counted, and not from its first byte on, as httpuv would. Those of refused callers
# go nowhere; of the others so many are let in as leaves some for the process itself.
most_bodies <- 100L
reply_prefix <- "reply-" # of the files that hold the replies of fits
get_routes <- c("/healthz", "/readyz", "/metrics", "/openapi.json")

#' Serves the service in `dir` until SIGINT; settings come from the environment (see README.md).
#'
#' Ends the R process: with status 0 after a signal, 78 where a setting is wrong.
#'
#' @param dir the service's folder; by default that of the script that Rscript runs.
serve <- function(dir = script_dir()) {
  settings <- tryCatch(
    read_settings(),
    seedplumber_config_error = function(e) refuse_to_start(conditionMessage(e))
  )
  Sys.unsetenv("INTERNAL_TOKEN") # the workers need none
  app <- new_app(load_service(dir, models = FALSE), dir, settings)
  # Interrupts are held back while callbacks run: httpuv would turn one that strikes there into a 500.
  suspendInterrupts({
    listening <- listen(app, settings)
    app$log(
      event = "started", version = app$service$version, host = settings$host, port = listening$port,
      workers = settings$workers, anonymous = !nzchar(settings$token), pid = Sys.getpid()
    )
    while (!interrupted()) later::run_now(0.2)
    app$drain()
    app$log(event = "stopping", grace_secs = settings$shutdown_grace_secs)
    grace <- timer(settings$shutdown_grace_secs)
    run_until(app$pool$quiet, grace)
    finished <- app$pool$quiet()
    app$pool$close()
    # Short replies on their way out. Turns are counted: on a busy machine a second may hold only one.
    for (turn in 1:20) later::run_now(0.02)
    run_until(function() !sends_reply(), grace)
    httpuv::stopServer(listening$server)
    app$log(event = "stopped", finished = finished)
  })
  quit(save = "no", status = 0L)
}

refuse_to_start <- function(message) {
  writeLines(message, stderr())
  quit(save = "no", status = 78L)
}

script_dir <- function() {
  file <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
  if (length(file) != 1L) stop("serve() needs the service's folder where Rscript runs no file")
  dirname(normalizePath(file))
}

interrupted <- function() {
  tryCatch(
    {
      allowInterrupts(Sys.sleep(0))
      FALSE
    },
    interrupt = function(e) TRUE
  )
}

run_until <- function(done, timer) {
  while (!done() && !timer$over()) later::run_now(0.1)
}

#' Whether a fit's reply is still being sent: httpuv keeps its file open until the client has all of it.
#' Always FALSE where there is no /proc.
sends_reply <- function() {
  open <- Sys.readlink(list.files("/proc/self/fd", full.names = TRUE))
  any(startsWith(basename(open), reply_prefix), na.rm = TRUE) # NA: closed since it was listed
}

listen <- function(app, settings) {
  handlers <- list(onHeaders = app$on_headers, call = app$call)
  start <- function(port) httpuv::startServer(settings$host, port, handlers, quiet = TRUE)
  if (settings$port > 0) {
    server <- tryCatch(start(settings$port), error = function(e) {
      app$pool$close()
      refuse_to_start(sprintf("Cannot listen on %s port %.0f: is it in use?", settings$host, settings$port))
    })
    return(list(server = server, port = settings$port))
  }
  for (attempt in 1:20) { # another process may take a free port between the look and the bind
    port <- httpuv::randomPort(host = settings$host)
    server <- tryCatch(start(port), error = function(e) NULL)
    if (!is.null(server)) return(list(server = server, port = port))
  }
  refuse_to_start("No free port was found.")
}

new_app <- function(service, dir, settings) {
  log <- new_log(service$name, settings$log_format)
  metrics <- new_metrics(service$name, names(service$routes))
  pool <- worker_pool(
    dir, settings$workers, settings$queue_length, settings$fit_timeout_secs, log, metrics$observe_fit,
    service$heap_cells
  )
  token_matches <- token_check(settings$token)
  nowhere <- file("/dev/null", "wb")
  bodies <- body_counter()
  draining <- FALSE

  record_reply <- function(req, reply) {
    route <- if (req$PATH_INFO %in% c(get_routes, names(service$routes))) req$PATH_INFO else "other"
    method <- if (req$REQUEST_METHOD %in% c("GET", "POST")) req$REQUEST_METHOD else "other"
    metrics$count_request(method, route, reply$status)
    if (method == "GET" && reply$status == 200L) return(reply) # probes and scrapes come every few seconds
    log(
      method = req$REQUEST_METHOD, route = route, status = reply$status, seconds = since(req$.began),
      bytes = body_bytes(reply$body)
    )
    reply
  }

  # Why this request is refused, judged by its head alone; NULL where it is not.
  refuse <- function(req) {
    refuse_route(req) %||% refuse_caller(req) %||% refuse_body(req) %||% refuse_work(req)
  }

  refuse_route <- function(req) {
    if (!req$PATH_INFO %in% c(get_routes, names(service$routes))) {
      return(problem_reply("not-found", "There is no such path here; see /openapi.json."))
    }
    allowed <- if (is_fit(req)) "POST" else "GET"
    if (req$REQUEST_METHOD != allowed) {
      problem_reply("method-not-allowed", paste("This path answers", allowed, "only."), Allow = allowed)
    }
  }

  refuse_caller <- function(req) {
    if (is_fit(req) && !token_matches(req$HTTP_AUTHORIZATION)) {
      detail <- "Send the service's token as 'Authorization: Bearer TOKEN'."
      problem_reply("unauthorized", detail, "WWW-Authenticate" = "Bearer")
    }
  }

  refuse_body <- function(req) {
    if (is_fit(req) && !is_json(req)) {
      detail <- "Send the body as application/json, without a content encoding."
      return(problem_reply("unsupported-media-type", detail))
    }
    length <- body_length(req)
    most <- if (is_fit(req)) settings$max_body_bytes else 0
    if (is.infinite(length)) {
      problem_reply("too-large", "The body's length is not declared: send Content-Length.")
    } else if (length > most) {
      problem_reply("too-large", sprintf("The body has %.0f bytes; at most %.0f are taken.", length, most))
    } else if (length > 0 && bodies() >= most_bodies) {
      problem_reply("busy", "Too many requests are coming in.")
    }
  }

  refuse_work <- function(req) {
    if (!is_fit(req)) return(NULL)
    if (draining) return(problem_reply("busy", "The service is stopping."))
    if (!pool$has_room()) problem_reply("busy", "Every worker is busy and the queue is full.")
  }

  is_fit <- function(req) req$PATH_INFO %in% names(service$routes)

  on_headers <- function(req) {
    req$.began <- now()
    refusal <- refuse(req)
    if (is.null(refusal)) {
      if (body_length(req) > 0) req$.bodyData <- file(open = "w+b", encoding = "UTF-8") # as httpuv would
      return(NULL)
    }
    if (body_length(req) > small_body_bytes) return(record_reply(req, refusal))
    req$.refusal <- refusal
    req$.bodyData <- nowhere
    NULL
  }

  call <- function(req) {
    if (!is.null(req$.refusal)) req$.bodyData <- NULL # which httpuv would close
    reply <- req$.refusal %||% router$call(req)
    if (!promises::is.promising(reply)) return(record_reply(req, reply))
    promises::then(reply, function(reply) record_reply(req, reply))
  }

  answer_fit <- function(req) {
    # the queue may have filled while the body came in
    refusal <- refuse_work(req)
    if (!is.null(refusal)) return(refusal)
    body_file <- save_body(req)
    if (is.null(body_file)) return(fit_reply(no_room()))
    promises::then(pool$submit(req$PATH_INFO, body_file), fit_reply)
  }

  # Written once, but for the time: what probes ask is answered in a millisecond.
  identity <- list(status = "ok", service = service$name, version = service$version, timestamp = "@")
  health <- jsonlite::toJSON(c(identity, service$health()), auto_unbox = TRUE)
  healthz <- function() json_reply(sub("@", utc_now(), health, fixed = TRUE))

  readyz <- function() {
    if (draining) return(problem_reply("busy", "The service is stopping."))
    if (!pool$ready()) return(problem_reply("busy", "The models are being loaded."))
    json_reply("{\"status\":\"ready\"}")
  }

  expose_metrics <- function() {
    gauges <- c(pool$gauges(), seed_ready = as.numeric(pool$ready() && !draining))
    reply(200L, "text/plain; version=0.0.4; charset=utf-8", metrics$expose(gauges))
  }

  document <- openapi_json(service)

  router <- plumber::pr(filters = list())
  router <- plumber::pr_set_docs(router, FALSE)
  router <- plumber::pr_set_serializer(router, function(value, req, res, error_handler) value)
  router <- plumber::pr_set_error(router, function(req, res, error) {
    log(event = "request_failed", detail = conditionMessage(error))
    problem_reply("internal", "The request failed; the service's log says why.")
  })
  router <- plumber::pr_get(router, "/healthz", healthz)
  router <- plumber::pr_get(router, "/readyz", readyz)
  router <- plumber::pr_get(router, "/metrics", expose_metrics)
  router <- plumber::pr_get(router, "/openapi.json", function() json_reply(document))
  for (path in names(service$routes)) router <- plumber::pr_post(router, path, answer_fit)

  list(
    service = service, log = log, pool = pool, on_headers = on_headers, call = call,
    drain = function() draining <<- TRUE
  )
}

#' Counts the bodies that are held open: those that come in, and those of fits until they are answered. One
#' whose client has gone is closed when R collects it, which this sees to, once a second, before there are too
#' many.
body_counter <- function() {
  others <- length(getAllConnections()) # standard input, output and error, and `nowhere`
  pause <- timer(0)
  open <- function() length(getAllConnections()) - others
  function() {
    if (open() >= most_bodies && pause$over()) {
      gc()
      pause <<- timer(1)
    }
    open()
  }
}

#' A function of the Authorization header. The comparison takes as long wherever the token differs: digests
#' under a key of this process are compared whole.
token_check <- function(token) {
  if (!nzchar(token)) return(function(header) TRUE)
  key <- sodium::random(32L)
  digest <- function(text) sodium::hash(charToRaw(text), key = key, size = 32L)
  expected <- digest(token)
  bearer <- "^bearer +"
  function(header) {
    header <- header_text(header)
    sent <- digest(trimws(sub(bearer, "", header, ignore.case = TRUE)))
    sum(sent != expected) == 0L && grepl(bearer, header, ignore.case = TRUE)
  }
}

#' A header's text; "" where it is missing, or no UTF-8, over which regular expressions raise errors.
header_text <- function(value) if (is.null(value) || !validUTF8(value)) "" else value

is_json <- function(req) {
  type <- tolower(trimws(sub(";.*", "", header_text(req$HTTP_CONTENT_TYPE))))
  type == "application/json" && is.null(req$HTTP_CONTENT_ENCODING)
}

# Bytes of the body as declared; infinite where nothing says how many: chunks come, or the header is empty.
body_length <- function(req) {
  if (!is.null(req$HTTP_TRANSFER_ENCODING)) return(Inf)
  length <- as.numeric(req$HTTP_CONTENT_LENGTH %||% 0)
  if (is.na(length)) Inf else length
}

# Copies the body to a file for the worker, in pieces, so that this process stays small. NULL where the disk
# has no room for it.
save_body <- function(req) {
  path <- tempfile("body-")
  target <- file(path, "wb")
  size <- 0
  while (length(piece <- req$rook.input$read(1048576L))) {
    suppressWarnings(writeBin(piece, target))
    size <- size + length(piece)
  }
  close(target)
  if (has_size(path, size)) return(path)
  unlink(path)
  NULL
}

#' Whether a file that was written is whole: of a full disk R makes a warning at most.
has_size <- function(path, size) isTRUE(file.size(path) == size)

no_room <- function() problem("unavailable", "The service's temporary folder is full; try again later.")

# Clients are told to close the connection after each reply: on one that is kept, a small second reply waits
# about 40 ms for the client's delayed acknowledgement, because head and body are sent apart underneath.
reply <- function(status, type, body, ...) {
  headers <- list("Content-Type" = type, Connection = "close", ...)
  if (status == 503L) headers[["Retry-After"]] <- as.character(retry_after_secs)
  list(status = status, headers = headers, body = body)
}

json_reply <- function(body) reply(200L, "application/json", as.character(body))

problem_reply <- function(type, detail, ...) {
  problem <- problem(type, detail)
  reply(problem$status, "application/problem+json", problem$body, ...)
}

# `result` is what the pool resolves to: a status, and the reply as a file or as a string.
fit_reply <- function(result) {
  type <- if (result$status == 200L) "application/json" else "application/problem+json"
  body <- if (is.null(result$file)) result$body else list(file = result$file, owned = TRUE)
  reply(result$status, type, body)
}

body_bytes <- function(body) if (is.list(body)) file.size(body$file) else nchar(body, "bytes")
