# A service on disk, as the workers load it.
toy_dir <- function(model, warm) {
  dir <- tempfile("toy-")
  dir.create(file.path(dir, "R"), recursive = TRUE)
  writeLines('service("toy", "0.1.0", warm = "warm", routes = list(
    fit_route("/toy", "model", "", record(x = number()), record(y = number()))))', file.path(dir, "api.R"))
  writeLines(c(paste("model <-", model), paste("warm <-", warm)), file.path(dir, "R", "model.R"))
  dir
}

start_pool <- function(model, warm = "function() NULL", timeout_secs = 30, queue_length = 2,
                       heap_cells = NULL, env = parent.frame()) {
  heard <- new.env()
  heard$events <- character()
  pool <- worker_pool(
    toy_dir(model, warm), 1, queue_length, timeout_secs,
    log = function(...) heard$events <- c(heard$events, list(...)$event),
    observe_fit = function(route, secs) NULL,
    heap_cells = heap_cells
  )
  at_end(pool$close, env)
  c(pool, list(heard = heard))
}

# Runs `action` when the calling test ends.
at_end <- function(action, env) {
  do.call(on.exit, list(as.call(list(action)), add = TRUE), envir = env)
}

wait_for <- function(done, secs = 30) {
  run_until(done, timer(secs))
  expect_true(done())
}

ask_pool <- function(pool, x) {
  file <- tempfile()
  writeLines(sprintf('{"x": %s}', x), file)
  reply <- new.env()
  promises::then(pool$submit("/toy", file), function(value) reply$value <- value)
  reply
}

sleeper <- "function(body) { Sys.sleep(body$x); list(y = body$x) }"

answered <- function(reply) function() !is.null(reply$value)

test_that("a worker that dies fails its own request and is replaced for the next", {
  pool <- start_pool("function(body) {
    if (body$x < 0) tools::pskill(Sys.getpid(), 9)
    list(y = body$x)
  }")
  wait_for(pool$ready)
  first <- ask_pool(pool, -1)
  second <- ask_pool(pool, 2)
  wait_for(answered(second))
  expect_equal(first$value$status, 500L)
  expect_equal(second$value$status, 200L)
  expect_equal(pool$gauges()$seed_worker_restarts_total, 1)
})

test_that("a worker's heap begins as large as its service declares", {
  # R shows the size at which garbage is collected, in cells, as the third column of gc()
  pool <- start_pool('function(body) list(y = gc()["Ncells", 3])', heap_cells = "3M")
  wait_for(pool$ready)
  reply <- ask_pool(pool, 1)
  wait_for(answered(reply))
  expect_gte(jsonlite::fromJSON(reply$value$file)$y, 3e6)
})

test_that("a fit past its deadline is stopped and the worker replaced", {
  pool <- start_pool(sleeper, timeout_secs = 3)
  wait_for(pool$ready)
  slow <- ask_pool(pool, 60)
  quick <- ask_pool(pool, 0)
  wait_for(answered(quick))
  expect_equal(slow$value$status, 503L)
  expect_match(slow$value$body, "problem:timeout")
  expect_equal(quick$value$status, 200L)
})

for (shift in c(-3600, 3600)) {
  test_that(sprintf("a clock that is set by %+d s in a fit moves no deadline: none goes by now()", shift), {
    set_by <- 0
    clock <- now
    utils::assignInNamespace("now", function() clock() + set_by, "seedplumber")
    on.exit(utils::assignInNamespace("now", clock, "seedplumber"))
    pool <- start_pool(sleeper, timeout_secs = 3)
    wait_for(pool$ready)
    slow <- ask_pool(pool, 60)
    set_by <- shift
    wait_for(answered(slow))
    expect_equal(slow$value$status, 503L)
    quick <- ask_pool(pool, 0.5)
    set_by <- 2 * shift
    wait_for(answered(quick))
    expect_equal(quick$value$status, 200L)
  })
}

test_that("the queue has room for as many as declared", {
  pool <- start_pool(sleeper, queue_length = 1)
  wait_for(pool$ready)
  expect_true(pool$has_room())
  ask_pool(pool, 1)
  expect_true(pool$has_room())
  last <- ask_pool(pool, 0)
  expect_false(pool$has_room())
  wait_for(answered(last))
  expect_true(pool$quiet())
})

test_that("a worker that cannot load its models is never ready, and that is logged", {
  pool <- start_pool("function(body) NULL", warm = "function() stop('no data')")
  wait_for(function() pool$gauges()$seed_worker_restarts_total > 0)
  expect_false(pool$ready())
  expect_true("worker_lost" %in% pool$heard$events)
})

test_that("compiled models are loaded as such and answer the same, unless they have changed since", {
  dir <- toy_dir("function(body) list(y = body$x + 1)", "function() NULL")
  from_source <- load_service(dir)$models$model
  utils::capture.output(compile_models(dir))
  file <- file.path(dir, "R", "model.R")
  writeLines("stop('read from its source')", file)
  Sys.setFileTime(file, file.mtime(compiled(file)))
  expect_equal(load_service(dir)$models$model(list(x = 1)), from_source(list(x = 1)))
  Sys.setFileTime(file, file.mtime(compiled(file)) + 1)
  expect_error(load_service(dir), "read from its source")
})

test_that("a reply that the disk has no room for is unavailable, not cut short", {
  reply_file <- tempfile()
  file.symlink("/dev/full", reply_file)
  body_file <- tempfile()
  writeLines('{"x": 1}', body_file)
  worker_state$service <- load_service(toy_dir("function(body) list(y = body$x)", "function() NULL"))
  result <- worker_answer("/toy", body_file, reply_file)
  expect_equal(result$problem$status, 503L)
  expect_match(result$problem$body, "problem:unavailable")
  expect_match(result$log, "/toy: the disk has no room")
})
