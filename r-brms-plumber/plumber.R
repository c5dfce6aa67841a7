# Starts the service. It needs the compiled Stan model (compile.R) and refuses to start without one made for
# this machine's R, rstan, StanHeaders and architecture.

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
dir <- dirname(normalizePath(script))

models <- new.env()
sys.source(file.path(dir, "R", "models.R"), models)
problem <- models$model_problem(models$model_dir(dir), "growth_marginal", models$marginal_stamp(dir))
if (!is.null(problem)) {
  message(problem)
  quit(status = 78) # EX_CONFIG
}

seedplumber::serve(dir)
