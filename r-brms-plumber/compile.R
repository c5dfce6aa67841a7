# Compile the Stan models once, where a C++ compiler is; the service and its workers never compile.
#
#   Rscript r-brms-plumber/compile.R [--brms] [--check] [DIR]
#
# DIR: where the compiled models go (default: STAN_MODEL_DIR, else .cache/stan of the repository).
# --brms: also the models of engine "brms". A model whose stamp is up to date is left alone.
# --check: compile nothing; exit with 78 at the first model that is not up to date.

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
service_dir <- dirname(normalizePath(script))
for (file in list.files(file.path(service_dir, "R"), pattern = "[.]R$", full.names = TRUE)) source(file)

arguments <- commandArgs(TRUE)
with_brms <- "--brms" %in% arguments
checking <- "--check" %in% arguments
dir <- setdiff(arguments, c("--brms", "--check"))
if (length(dir) > 1 || any(startsWith(dir, "-"))) {
  message("usage: Rscript compile.R [--brms] [--check] [DIR]")
  quit(status = 64)
}
if (length(dir) == 0) dir <- model_dir(service_dir)

if (!checking) {
  # No debug symbols: 1 MB a model instead of 27.
  makevars <- tempfile()
  writeLines(sprintf("%s += -g0", c("CXXFLAGS", "CXX14FLAGS", "CXX17FLAGS")), makevars)
  Sys.setenv(R_MAKEVARS_USER = makevars)
  # Debian's rstan does not say where its Boost headers are.
  if (!dir.exists(system.file("include", package = "BH"))) rstan::rstan_options(boost_lib = "/usr/include")
}

ensure <- function(name, stamp, compile) {
  problem <- model_problem(dir, name, stamp)
  if (is.null(problem)) {
    message(name, " is up to date in ", dir)
    return(invisible())
  }
  if (checking) {
    message(problem)
    quit(status = 78) # EX_CONFIG
  }
  message("compiling ", name, " into ", dir, " ...")
  seconds <- system.time(store_model(compile(), dir, name, stamp))[["elapsed"]]
  message(sprintf("compiled %s in %.0f s", name, seconds))
}

models <- list(growth_marginal = function() {
  ensure("growth_marginal", marginal_stamp(service_dir), function() {
    rstan::stan_model(file.path(service_dir, "stan", "growth_marginal.stan"), model_name = "growth_marginal")
  })
})
if (with_brms) {
  models[paste0("brms_", brms_families)] <- lapply(brms_families, function(family) {
    function() ensure(paste0("brms_", family), brms_stamp(service_dir), function() compile_brms(family))
  })
}
if (checking) {
  for (model in models) model()
} else {
  # Each takes a core for a minute or more: side by side, the longest (brms) first.
  tell <- function(model) {
    model()
    TRUE
  }
  cores <- parallel::detectCores()
  done <- parallel::mclapply(rev(models), tell, mc.cores = cores, mc.preschedule = FALSE)
  for (name in names(done)) {
    if (is.null(done[[name]])) stop(name, " was not compiled: its process died (out of memory?)")
    if (!isTRUE(done[[name]])) stop(name, " was not compiled: ", done[[name]])
  }
}
