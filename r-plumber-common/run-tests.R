# Runs the tests of the shared package and of the services: Rscript r-plumber-common/run-tests.R [FOLDER ...]
# Fails where a test fails or a folder has none.
common <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))))
root <- dirname(common)
if (!nzchar(Sys.getenv("R_LIBS_USER"))) Sys.setenv(R_LIBS_USER = file.path(root, ".cache", "R"))
if (!nzchar(Sys.getenv("TZ"))) Sys.setenv(TZ = "UTC")
.libPaths(c(Sys.getenv("R_LIBS_USER"), .libPaths()))
if (system2(file.path(common, "install")) != 0L) quit(status = 1L)

folders <- commandArgs(TRUE)
if (length(folders) == 0L) folders <- c(common, Sys.glob(file.path(root, "r-*-plumber")))

run <- function(folder) {
  tests <- file.path(folder, "tests", "testthat")
  # tests of the package see its internals; tests of a service see its model functions
  env <- if (basename(folder) == basename(common)) {
    new.env(parent = asNamespace("seedplumber"))
  } else {
    seedplumber::load_service(folder)$models
  }
  said <- utils::capture.output(
    found <- testthat::test_dir(tests, env = env, stop_on_failure = FALSE, reporter = "check")
  )
  cat(c("", paste("==", basename(folder)), said, ""), sep = "\n")
  results <- as.data.frame(found)
  c(
    tests = nrow(results), checks = sum(results$nb), skipped = sum(results$skipped),
    failed = sum(results$failed > 0L | results$error), secs = round(sum(results$real), 1)
  )
}

# A process a folder, as many at once as there are cores; each says how it went when it has ended.
outcome <- parallel::mclapply(
  stats::setNames(normalizePath(folders), basename(folders)), run,
  mc.cores = parallel::detectCores(), mc.preschedule = FALSE
)
ran <- Filter(is.numeric, outcome)
cat("\n")
print(do.call(rbind, ran))
for (name in setdiff(names(outcome), names(ran))) cat(name, "was not run to its end:", outcome[[name]], "\n")
bad <- length(outcome) - length(ran) + sum(vapply(ran, function(of) of[["failed"]] + (of[["tests"]] == 0), 0))
cat(if (bad) "FAILED\n" else "All R tests passed.\n")
quit(status = if (bad) 1L else 0L)
