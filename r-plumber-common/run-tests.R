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
  cat("\n==", basename(folder), "\n")
  tests <- file.path(folder, "tests", "testthat")
  # tests of the package see its internals; tests of a service see its model functions
  env <- if (basename(folder) == basename(common)) {
    new.env(parent = asNamespace("seedplumber"))
  } else {
    seedplumber::load_service(folder)$models
  }
  results <- as.data.frame(testthat::test_dir(tests, env = env, stop_on_failure = FALSE, reporter = "check"))
  failed <- results[results$failed > 0L | results$error, ]
  c(
    tests = nrow(results), checks = sum(results$nb), skipped = sum(results$skipped), failed = nrow(failed),
    secs = round(sum(results$real), 1)
  )
}

outcome <- vapply(normalizePath(folders), run, c(tests = 0, checks = 0, skipped = 0, failed = 0, secs = 0))
colnames(outcome) <- basename(folders)
cat("\n")
print(t(outcome))
bad <- sum(outcome["failed", ]) + sum(outcome["tests", ] == 0)
cat(if (bad) "FAILED\n" else "All R tests passed.\n")
quit(status = if (bad) 1L else 0L)
