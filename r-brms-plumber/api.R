# Bayesian growth of scores: score ~ week + (week | student). The models are in R/ and stan/.
# Units: score and week are scaled by the caller, y = (score - centre) / scale, x = (week - mean) / span.

# This folder: source() keeps the path of the file that it reads.
folder <- normalizePath(dirname(Find(function(frame) !is.null(frame$ofile), rev(sys.frames()))$ofile))
models <- new.env()
sys.source(file.path(folder, "R", "models.R"), models)

parameters <- list(b_Intercept = number(), b_week = number(), sd_Intercept = number(min = 0),
                   sd_week = number(min = 0), cor = number(min = -1, max = 1),
                   sigma = number(min = 1e-50)) # whose square is not 0

predictions <- columns(user_id = string(), at = number(), mean = number(), sd = number(min = 0),
                       probability = number(min = 0, max = 1))

service(
  name = "r-brms-plumber",
  version = "0.1.0",
  packages = c("rstan", "posterior"),
  warm = "warm_growth",
  health = function() list(stan_version = models$compiled_stan_version(models$model_dir(folder))),
  routes = list(
    fit_route(
      "/growth/fit", "growth_fit",
      summary = "Fit growth curves: population effects, spread between students and noise",
      request = record(
        engine = optional(choice("marginal", "brms"), "marginal"),
        family = optional(choice("gaussian", "student"), "gaussian"),
        patterns = optional(columns(
          n_students = integer(min = 1), n = integer(min = 1), sw = number(), sww = number(min = 0),
          c0 = number(), c1 = number(), q00 = number(min = 0), q01 = number(), q11 = number(min = 0),
          .min_rows = 1)),
        sum_yy = optional(number(min = 0)),
        rows = optional(columns(user_id = string(), week = number(), score = number(), .min_rows = 1)),
        n_samples = optional(integer(min = 100, max = 100000), 1000L),
        n_chains = optional(integer(min = 1, max = 32), 4L),
        predict = optional(record(
          week = number(), goal = number(),
          # some of the students, over several weeks
          band = optional(record(user_id = array_of(string(), 1), at = array_of(number(), 1)))))),
      response = record(
        engine = string(), family = string(), formula = string(),
        priors = columns(parameter = string(), prior = string()),
        posterior_summary = columns(
          parameter = string(), mean = number(), sd = number(), q5 = number(), q50 = number(), q95 = number(),
          rhat = nullable(number()), ess_bulk = nullable(number()), ess_tail = nullable(number())),
        diagnostics = record(
          max_rhat = nullable(number()), min_ess_bulk = nullable(number()), min_ess_tail = nullable(number()),
          divergent = integer(min = 0), max_treedepth_hits = integer(min = 0), n_draws = integer(),
          n_chains = integer()),
        draws = do.call(columns, c(parameters, list(nu = optional(number(min = 1))))),
        predictions = optional(predictions),
        band = optional(predictions))),
    fit_route(
      "/growth/predict", "growth_predict",
      summary = "Predict a new score of each student from the draws of a gaussian fit",
      request = record(
        draws = do.call(columns, c(parameters, list(.min_rows = 1))),
        students = columns(user_id = string(), n = integer(min = 0), sw = number(), sww = number(min = 0),
                           sy = number(), swy = number()),
        at = array_of(number(), min_items = 1),
        goal = number()),
      response = record(predictions = predictions))))
