stamp <- marginal_stamp(service_dir)

test_that("the stamp names what a compiled model is tied to", {
  expect_named(stamp, c("R", "platform", "rstan", "StanHeaders", "source"))
  expect_equal(stamp$R, as.character(getRversion()))
})

test_that("a stored model whose stamp fits is used", {
  expect_null(model_problem(model_dir(service_dir), "growth_marginal", stamp))
})

test_that("any other R, package, architecture or source is named, with what to run", {
  for (part in names(stamp)) {
    problem <- model_problem(model_dir(service_dir), "growth_marginal", replace(stamp, part, "another"))
    expect_match(problem, sprintf("is for %s %s, here is another", part, stamp[[part]]), fixed = TRUE)
    expect_match(problem, "Rscript r-brms-plumber/compile.R`", fixed = TRUE)
  }
})

test_that("a change of the Stan program changes the stamp", {
  copy <- withr::local_tempdir()
  dir.create(file.path(copy, "stan"))
  program <- readLines(file.path(service_dir, "stan", "growth_marginal.stan"))
  writeLines(c(program, "// changed"), file.path(copy, "stan", "growth_marginal.stan"))
  expect_false(identical(marginal_stamp(copy)$source, stamp$source))
})

test_that("a model that was never compiled is missed, with what to run", {
  nowhere <- withr::local_tempdir()
  expect_match(model_problem(nowhere, "growth_marginal", stamp), "no compiled model growth_marginal")
  expect_match(model_problem(nowhere, "brms_gaussian", stamp), "compile.R --brms", fixed = TRUE)
})

test_that("engine brms without its models is unavailable, with what to run", {
  withr::local_envvar(STAN_MODEL_DIR = withr::local_tempdir())
  withr::defer(rm(list = ls(loaded_models), envir = loaded_models))
  rm(list = ls(loaded_models), envir = loaded_models)
  service <- seedplumber::load_service(service_dir)
  body <- '{"engine": "brms", "family": "student", "rows": {
    "user_id": ["a","a","a","b","b","b"], "week": [0,1,2,0,1,2], "score": [0.1,0.4,0.3,0.5,0.2,0.9]}}'
  reply <- seedplumber::answer(service, "/growth/fit", body)
  problem <- jsonlite::fromJSON(reply$body)
  expect_equal(c(reply$status, sub(".*:", "", problem$type)), c("503", "unavailable"))
  expect_match(problem$detail, "compile.R --brms", fixed = TRUE)
})

test_that("the models of engine brms may be missing at the start, but not be for another machine", {
  dir <- withr::local_tempdir()
  stored <- list.files(model_dir(service_dir), "[.](rds|json)$", full.names = TRUE)
  file.copy(grep("growth_marginal", stored, value = TRUE), dir)
  expect_null(start_problems(service_dir, dir))
  for (family in brms_families) {
    copied <- file.copy(grep(paste0("brms_", family), stored, value = TRUE), dir)
    expect_equal(copied, c(TRUE, TRUE))
    expect_null(start_problems(service_dir, dir))
    stamp_file <- model_file(dir, paste0("brms_", family), "json")
    stamp <- jsonlite::fromJSON(stamp_file)
    writeLines(jsonlite::toJSON(replace(stamp, "brms", "another"), auto_unbox = TRUE), stamp_file)
    expect_match(start_problems(service_dir, dir), sprintf("brms_%s in .* is for brms another", family))
    unlink(stamp_file)
  }
})

test_that("compile.R leaves what is up to date alone", {
  file <- model_file(model_dir(service_dir), "growth_marginal")
  before <- file.mtime(file)
  script <- shQuote(file.path(service_dir, "compile.R"))
  said <- system2(rscript, script, stdout = TRUE, stderr = TRUE)
  expect_match(said, "growth_marginal is up to date", all = FALSE)
  expect_equal(file.mtime(file), before)
})

test_that("compile.R --check compiles nothing, and ends with 78 where a model is for another machine", {
  check <- function(dir) {
    arguments <- c(shQuote(file.path(service_dir, "compile.R")), "--check", shQuote(dir))
    suppressWarnings(system2(rscript, arguments, stdout = TRUE, stderr = TRUE))
  }
  expect_match(check(model_dir(service_dir)), "growth_marginal is up to date", all = FALSE)
  copy <- withr::local_tempdir()
  files <- model_file(model_dir(service_dir), "growth_marginal", c("rds", "json"))
  file.copy(files, copy)
  foreign <- sub(R.version$platform, "another", readLines(files[[2]]), fixed = TRUE)
  writeLines(foreign, file.path(copy, basename(files[[2]])))
  said <- check(copy)
  expect_equal(attr(said, "status"), 78L)
  expect_match(said, "is for platform another", all = FALSE)
  expect_match(readLines(file.path(copy, basename(files[[2]]))), "another", all = FALSE)
})

test_that("the service refuses to start without its model, with exit code 78", {
  withr::local_envvar(STAN_MODEL_DIR = withr::local_tempdir(), ALLOW_ANONYMOUS = "true", PORT = "0")
  said <- suppressWarnings(
    system2(rscript, shQuote(file.path(service_dir, "plumber.R")), stdout = TRUE, stderr = TRUE))
  expect_equal(attr(said, "status"), 78L)
  expect_match(said, "There is no compiled model", all = FALSE)
})

# Everything of PATH but what could compile.
path_without_compiler <- function(dir) {
  folders <- strsplit(Sys.getenv("PATH"), ":", fixed = TRUE)[[1]]
  commands <- list.files(folders[dir.exists(folders)], full.names = TRUE)
  commands <- commands[!duplicated(basename(commands))]
  compiler <- "(^|-)(g[+][+]|gcc|c[+][+]|cc|clang|clang[+][+]|cc1plus|make|gmake|ld|as)(-[0-9.]+)?$"
  commands <- commands[!grepl(compiler, basename(commands))]
  file.symlink(commands, file.path(dir, basename(commands)))
  dir
}

test_that("both engines fit where there is no compiler", {
  withr::local_envvar(PATH = path_without_compiler(withr::local_tempdir()))
  expect_equal(unname(Sys.which(c("g++", "gcc", "c++", "clang++", "make"))), rep("", 5))
  program <- '
    service <- seedplumber::load_service(commandArgs(TRUE)[1])
    for (engine in c("marginal", "brms")) {
      body <- sprintf(\'{"engine": "%s", "n_samples": 200, "n_chains": 1, "rows": {
        "user_id": ["a","a","a","b","b","b"], "week": [0,1,2,0,1,2],
        "score": [0.1,0.4,0.3,0.5,0.2,0.9]}}\', engine)
      cat(engine, seedplumber::answer(service, "/growth/fit", body)$status, "\\n")
    }'
  file <- withr::local_tempfile(lines = program)
  said <- system2(rscript, c(file, shQuote(service_dir)), stdout = TRUE, stderr = FALSE)
  expect_equal(trimws(said), c("marginal 200", "brms 200"))
})
