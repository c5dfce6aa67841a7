# Starts the service. It needs the compiled Stan model (compile.R); those of engine brms it may lack. It
# refuses to start with one that was not made for this machine's R, packages and architecture.

script <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))
dir <- dirname(normalizePath(script))

models <- new.env()
sys.source(file.path(dir, "R", "models.R"), models)
problems <- models$start_problems(dir)
if (length(problems)) {
  message(paste(problems, collapse = "\n"))
  quit(status = 78) # EX_CONFIG
}

seedplumber::serve(dir)
