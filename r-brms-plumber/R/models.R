# Compiled Stan models: compiled once by compile.R, stored with what they are tied to, checked before use.
#
# DIR/<name>.rds    a compiled model: growth_marginal, brms_gaussian, brms_student
# DIR/<name>.json   its stamp: versions, architecture and a hash of the source

brms_families <- c("gaussian", "student")

#' Directory of the compiled models: STAN_MODEL_DIR, by default .cache/stan of the repository.
model_dir <- function(service_dir = getwd()) {
  dir <- Sys.getenv("STAN_MODEL_DIR")
  if (nzchar(dir)) dir else file.path(dirname(normalizePath(service_dir)), ".cache", "stan")
}

model_file <- function(dir, name, ext = "rds") file.path(dir, paste0(name, ".", ext))

#' What a compiled model is tied to. A shared library built by another R, rstan, StanHeaders or architecture
#' may load and then crash or answer wrongly. Reads DESCRIPTION files only: no Stan is loaded.
#' @param source files whose change makes the model stale.
#' @param packages names of the packages that the compiled code depends on.
#' @return named list of strings.
model_stamp <- function(source, packages = c("rstan", "StanHeaders")) {
  versions <- lapply(packages, function(package) as.character(utils::packageVersion(package)))
  c(list(R = as.character(getRversion()), platform = R.version$platform),
    stats::setNames(versions, packages),
    list(source = paste(unname(tools::md5sum(source)), collapse = " ")))
}

marginal_stamp <- function(service_dir) {
  model_stamp(file.path(service_dir, "stan", "growth_marginal.stan"))
}

brms_stamp <- function(service_dir) {
  model_stamp(file.path(service_dir, "R", "brms-model.R"), c("rstan", "StanHeaders", "brms"))
}

#' Why the stored model cannot be used, as a sentence, or NULL when it can.
model_problem <- function(dir, name, stamp) {
  how <- if (startsWith(name, "brms_")) "compile.R --brms" else "compile.R"
  how <- sprintf("run `Rscript r-brms-plumber/%s` where a C++ compiler is", how)
  if (!file.exists(model_file(dir, name)) || !file.exists(model_file(dir, name, "json"))) {
    return(sprintf("There is no compiled model %s in %s: %s.", name, dir, how))
  }
  stored <- jsonlite::fromJSON(model_file(dir, name, "json"))
  for (part in names(stamp)) {
    if (!identical(stored[[part]], stamp[[part]])) {
      return(sprintf("The compiled model %s in %s is for %s %s, here is %s: %s.", name, dir, part,
                     if (is.null(stored[[part]])) "(unknown)" else stored[[part]], stamp[[part]], how))
    }
  }
  NULL
}

#' Why the service cannot start with the stored models, a sentence each. Models of engine brms may be missing.
start_problems <- function(service_dir, dir = model_dir(service_dir)) {
  brms <- paste0("brms_", brms_families)
  brms <- brms[file.exists(model_file(dir, brms, "json"))]
  c(model_problem(dir, "growth_marginal", marginal_stamp(service_dir)),
    unlist(lapply(brms, function(name) model_problem(dir, name, brms_stamp(service_dir)))))
}

#' Store a compiled model and its stamp; the stamp is written last, so that a stamp means a whole model.
store_model <- function(model, dir, name, stamp) {
  dir.create(dir, recursive = TRUE, showWarnings = FALSE)
  unlink(model_file(dir, name, "json"))
  partial <- tempfile(tmpdir = dir)
  saveRDS(model, partial)
  file.rename(partial, model_file(dir, name))
  stamp$stan_version <- rstan::stan_version()
  writeLines(jsonlite::toJSON(stamp, auto_unbox = TRUE, pretty = TRUE), model_file(dir, name, "json"))
}

#' Stan's version that the marginal model was compiled with.
compiled_stan_version <- function(dir) {
  jsonlite::fromJSON(model_file(dir, "growth_marginal", "json"))$stan_version
}

loaded_models <- new.env(parent = emptyenv())

#' A compiled model, read once a process.
#' @return a stanmodel, or a brmsfit without draws.
load_model <- function(name, service_dir, dir = model_dir(service_dir)) {
  if (is.null(loaded_models[[name]])) loaded_models[[name]] <- readRDS(model_file(dir, name))
  loaded_models[[name]]
}

#' A compiled brms model. Raises `seedplumber_unavailable` where it was not compiled for this machine.
load_brms <- function(family, service_dir, dir = model_dir(service_dir)) {
  name <- paste0("brms_", family)
  problem <- model_problem(dir, name, brms_stamp(service_dir))
  if (!is.null(problem)) {
    seedplumber::abort_unavailable(paste(problem, "Engine marginal needs no such model."))
  }
  load_model(name, service_dir, dir)
}
