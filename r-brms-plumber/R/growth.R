# The routes: which engine, which model, and the shape of the reply. load_service() sets `service_dir`.

growth_formula <- "score ~ week + (week | student)"

#' POST /growth/fit.
#' @param body the request, as api.R declares it.
#' @return the reply's fields. A fit whose chains disagree is returned with the diagnostics that say so: the
#'   caller decides.
growth_fit <- function(body) {
  check_request(body)
  if (body$engine == "marginal") {
    statistics <- body[c("patterns", "sum_yy")]
    if (!is.null(body$rows)) statistics <- growth_patterns(body$rows)
    fitted <- fit_marginal(statistics$patterns, statistics$sum_yy, load_model("growth_marginal", service_dir),
                           body$n_samples, body$n_chains, body$seed)
  } else {
    fitted <- fit_brms(body$rows, load_brms(body$family, service_dir), body$family,
                       body$n_samples, body$n_chains, body$seed)
  }
  predict <- function(rows, at) predict_brms(fitted, rows, body$family, at, body$predict$goal)
  band <- body$predict$band
  list(
    engine = body$engine,
    family = body$family,
    formula = growth_formula,
    priors = growth_priors(body$family),
    posterior_summary = fitted$summary,
    diagnostics = fitted$diagnostics,
    draws = draws_frame(fitted$draws),
    predictions = if (!is.null(body$predict)) predict(body$rows, body$predict$week),
    band = if (!is.null(band)) predict(body$rows[body$rows$user_id %in% band$user_id, ], band$at),
    warnings = c(fitted$warnings, treedepth_warning(fitted$diagnostics)),
    versions = if (body$engine == "brms") list(brms = as.character(utils::packageVersion("brms")))
  )
}

#' POST /growth/predict.
growth_predict <- function(body) {
  list(predictions = predict_growth(body$draws, body$students, body$at, body$goal))
}

#' Rules between the fields of a fit request.
check_request <- function(body) {
  invalid <- seedplumber::abort_invalid
  if (body$engine == "marginal") {
    if (body$family != "gaussian") invalid("family", "must be gaussian for engine marginal; brms has others")
    if (!is.null(body$predict)) invalid("predict", "is for engine brms; marginal fits have /growth/predict")
    if (is.null(body$rows) && (is.null(body$patterns) || is.null(body$sum_yy))) {
      invalid("patterns", "and sum_yy are required for engine marginal, or else rows")
    }
    if (!is.null(body$rows) && !is.null(body$patterns)) invalid("rows", "must not be given beside patterns")
  } else {
    if (is.null(body$rows)) invalid("rows", "is required for engine brms")
    if (!is.null(body$patterns)) invalid("patterns", "is for engine marginal; engine brms needs rows")
    unknown <- setdiff(body$predict$band$user_id, body$rows$user_id)
    if (length(unknown) > 0) {
      invalid("predict.band.user_id", sprintf("must be of students in rows, but %s is not", unknown[1]))
    }
  }
}

#' The priors in words of Stan; both engines have the same.
growth_priors <- function(family) {
  priors <- c(b_Intercept = "normal(0, 1)", b_week = "normal(0, 1)", sd_Intercept = "half-normal(0, 1)",
              sd_week = "half-normal(0, 1)", cor = "lkj(2)", sigma = "half-normal(0, 1)",
              if (family == "student") c(nu = "gamma(2, 0.1), nu > 1"))
  data.frame(parameter = names(priors), prior = unname(priors))
}

#' A worker is warm once it has fitted a small class as it will fit others: the first request is no slower
#' than those after it. R collects garbage when its heap is full, so that a worker that has filled it holds at
#' rest what it will hold, and a leak would show beside that.
warm_growth <- function() {
  class <- expand.grid(user_id = letters[1:20], week = seq(-0.5, 0.5, by = 0.25), stringsAsFactors = FALSE)
  class$score <- match(class$user_id, letters) %% 5 + class$week + sin(seq_len(nrow(class)))
  request <- list(engine = "marginal", family = "gaussian", rows = class, n_samples = 1000L, n_chains = 4L,
                  seed = 1L)
  for (fit in 1:2) growth_fit(request)
  invisible()
}
