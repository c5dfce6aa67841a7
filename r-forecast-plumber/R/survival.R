# Survival of visits: one row per visit, the days until the next one, censored at the as-of day.
#
# Cox proportional hazards (Cox, J R Stat Soc B 34:187, 1972), ties by Efron's likelihood, standard errors
# robust to several visits of one user (Lin & Wei, J Am Stat Assoc 84:1074, 1989). For a user who is now g
# days away, survival is 1 - S(threshold) / S(g): the probability to come back before `threshold` days of
# silence are full; 0 once g has reached them.

rare_missing <- 0.05 # below this share of missing values rows are left out; from it on, missingness is a term
separation_limit <- log(1000) # |coefficient| x sd of its covariate: a hazard ratio of 1,000 for one sd
few_events <- 10 # events for each term (Peduzzi et al., J Clin Epidemiol 48:1503, 1995)
few_users <- 20 # clusters below which robust errors are too small
curve_days <- 90
confidence <- 0.95

#' Fits visits and scores users.
#'
#' @param body list: `visits` (data frame: user_id, day, gap_days in days > 0, event, and covariates that
#'   may be NA), `covariates` (names), `threshold_days`, `holdout_days`, `as_of_day` (of the same count as
#'   `day`) and `score` (data frame: user_id, days_away and the covariates) or NULL.
#' @return list as declared for /survival/fit in api.R. `estimate` and hazard ratios are NA for terms that
#'   separate events from non-events, since their maximum likelihood estimate is infinite.
#' Raises seedplumber_invalid for fields that contradict each other, seedplumber_unfittable without events
#'   or with one user.
fit_survival <- function(body) {
  check_survival(body)
  visits <- body$visits
  threshold <- body$threshold_days
  recipe <- covariate_recipe(visits, body$covariates)
  kept <- recipe$complete
  used <- visits[kept, ]
  refuse_visits(used)

  fit <- fit_cox(used, recipe, full = TRUE)
  coefficients <- coefficient_table(fit)
  notes <- c(recipe$notes, visit_notes(used, fit, threshold))
  list(
    formula = fit$formula,
    n = nrow(used),
    n_events = sum(used$event),
    n_users = length(unique(used$user_id)),
    coefficients = coefficients,
    hazard_ratios = data.frame(
      term = coefficients$term, hazard_ratio = exp(coefficients$estimate), lower = exp(coefficients$lower),
      upper = exp(coefficients$upper)
    ),
    separated = fit$terms[fit$separated],
    concordance = fit$concordance,
    log_likelihood = list(null = fit$log_likelihood[1L], model = fit$log_likelihood[2L]),
    ph_test = proportional_hazards_test(fit),
    survival_curve = survival_curve(used),
    holdout = evaluate_holdout(visits, body$covariates, threshold, body$holdout_days, body$as_of_day),
    scores = score_users(body$score, fit, recipe, threshold),
    dropped = recipe$dropped,
    warnings = c(notes, fit$notes)
  )
}

check_survival <- function(body) {
  visits <- body$visits
  for (i in seq_along(body$covariates)) {
    name <- body$covariates[i]
    where <- sprintf("covariates[%d]", i - 1L)
    if (name %in% c("user_id", "day", "gap_days", "event")) {
      seedplumber::abort_invalid(where, "must not be the outcome or an identifier")
    }
    if (!name %in% names(visits)) seedplumber::abort_invalid(where, "is not a column of visits")
    if (name %in% body$covariates[seq_len(i - 1L)]) seedplumber::abort_invalid(where, "is named twice")
    if (!is.null(body$score) && !name %in% names(body$score)) {
      seedplumber::abort_invalid(paste0("score.", name), "is required, since it is a covariate")
    }
  }
  late <- which(visits$day + visits$gap_days > body$as_of_day)
  if (length(late)) {
    where <- sprintf("visits.gap_days[%d]", late[1L] - 1L)
    seedplumber::abort_invalid(where, "must end by as_of_day: what comes later is not known yet")
  }
}

refuse_visits <- function(used) {
  if (nrow(used) == 0L || !any(used$event)) {
    seedplumber::abort_unfittable("No visit was followed by another: there are no events to fit.")
  }
  if (length(unique(used$user_id)) < 2L) {
    seedplumber::abort_unfittable("All visits are of one user: nothing can be said about others.")
  }
}

visit_notes <- function(used, fit, threshold) {
  n_users <- length(unique(used$user_id))
  n_events <- sum(used$event)
  n_terms <- length(fit$terms)
  c(
    if (n_users < few_users) {
      sprintf("Only %d users: robust standard errors are too small below %d.", n_users, few_users)
    },
    if (n_events < few_events * n_terms) {
      sprintf("Only %d events for %d terms: at least %d each are needed.", n_events, n_terms, few_events)
    },
    if (all(used$event)) "Every visit was followed by another: nothing is censored.",
    if (max(used$gap_days) < threshold) {
      sprintf("No visit was followed for %s days: survival to there is not known.", format(threshold))
    }
  )
}

# ---- Covariates

#' How covariates become columns of the design, learned from the rows that are fitted.
#'
#' A covariate that is rarely missing (< 5 %) costs its incomplete rows, as in `coxph`; one that is often
#' missing gets its mean there, and a term `NAME_missing`. Constant, repeated and linearly dependent columns
#' are dropped.
#'
#' @return list: `terms` (names of the design's columns), `means`, `flagged` (covariates with a missing-term),
#'   `complete` (rows to fit), `dropped` (data frame: term, reason), `notes` (sentences).
covariate_recipe <- function(data, covariates) {
  missing <- vapply(covariates, function(name) mean(is.na(data[[name]])), 0)
  flagged <- covariates[missing >= rare_missing & missing < 1]
  rare <- covariates[missing > 0 & missing < rare_missing]
  complete <- if (length(rare)) stats::complete.cases(data[rare]) else rep(TRUE, nrow(data))
  empty <- covariates[missing == 1]
  kept <- setdiff(covariates, empty)
  recipe <- list(
    covariates = kept, flagged = flagged, complete = complete,
    means = vapply(kept, function(name) mean(data[[name]][complete], na.rm = TRUE), 0)
  )
  recipe$terms <- c(kept, if (length(flagged)) paste0(flagged, "_missing"))
  faults <- redundant_columns(design_matrix(recipe, data[complete, , drop = FALSE]))
  recipe$terms <- setdiff(recipe$terms, faults$term)
  unknown <- data.frame(term = empty, reason = rep("every value is missing", length(empty)))
  recipe$dropped <- rbind(unknown, faults)
  recipe$notes <- c(
    if (!all(complete)) {
      sprintf("%d visits lack a value of %s and were left out.", sum(!complete), paste(rare, collapse = ", "))
    },
    if (nrow(recipe$dropped)) paste0(recipe$dropped$term, " was dropped: ", recipe$dropped$reason, ".")
  )
  recipe
}

#' The numeric matrix of a recipe's terms, a row for each row of `data`.
design_matrix <- function(recipe, data) {
  values <- lapply(recipe$covariates, function(name) {
    x <- data[[name]]
    replace(x, is.na(x), recipe$means[[name]])
  })
  flags <- lapply(recipe$flagged, function(name) as.numeric(is.na(data[[name]])))
  x <- matrix(as.numeric(unlist(c(values, flags))), nrow = nrow(data))
  colnames(x) <- c(recipe$covariates, if (length(recipe$flagged)) paste0(recipe$flagged, "_missing"))
  x[, recipe$terms, drop = FALSE]
}

redundant_columns <- function(x) {
  terms <- colnames(x)
  spread <- apply(x, 2L, stats::sd)
  level <- pmax(apply(abs(x), 2L, max), .Machine$double.xmin)
  # below 1e-100 the squares that the fit rests on are no longer told from 0
  constant <- terms[!is.finite(spread) | spread <= pmax(1e-12 * level, 1e-100)]
  rest <- setdiff(terms, constant)
  scaled <- scale(x[, rest, drop = FALSE])
  decomposed <- qr(scaled, tol = 1e-8)
  dependent <- rest[decomposed$pivot[seq_len(ncol(scaled)) > decomposed$rank]]
  reason <- vapply(dependent, function(term) {
    earlier <- setdiff(rest[seq_len(match(term, rest) - 1L)], dependent)
    alike <- abs(drop(crossprod(scaled[, earlier, drop = FALSE], scaled[, term]))) / (nrow(x) - 1)
    same <- earlier[alike > 1 - 1e-8]
    if (length(same)) paste("a copy of", same[1L]) else "a linear combination of other covariates"
  }, "")
  data.frame(
    term = c(constant, dependent), reason = c(rep("constant", length(constant)), unname(reason)),
    row.names = NULL
  )
}

# ---- Model

#' Fits the Cox model of `recipe`'s terms to `data`.
#'
#' @param full also the concordance, and the coxph object that the test of proportional hazards needs.
#' @return list: `formula`, `terms`, `beta`, `naive_se`, `robust_se`, `means` (of the terms),
#'   `separated` and `estimated` (logical, a term each), `log_likelihood` (null, model), `concordance`,
#'   `model`, `baseline` (step function of days: the cumulative hazard at the means), `notes` (sentences).
fit_cox <- function(data, recipe, full) {
  x <- design_matrix(recipe, data)
  outcome <- survival::Surv(data$gap_days, data$event)
  heard <- character()
  model <- withCallingHandlers(
    if (ncol(x) == 0L) {
      survival::coxph(outcome ~ 1, ties = "efron")
    } else if (full) {
      survival::coxph(outcome ~ x, ties = "efron")
    } else {
      # what coxph() calls, without its residuals and concordance
      survival::coxph.fit(
        x, outcome, NULL, NULL, NULL, survival::coxph.control(), NULL, "efron", NULL,
        resid = FALSE
      )
    },
    warning = function(w) {
      heard <<- c(heard, conditionMessage(w))
      invokeRestart("muffleWarning")
    }
  )
  beta <- stats::setNames(as.numeric(model$coefficients), colnames(x))
  unknown <- is.na(beta) # the term does not vary among those who could come back when somebody did
  beta[unknown] <- 0
  means <- colMeans(x)
  sets <- risk_sets(data, sweep(x, 2L, means), beta)
  separated <- steep_terms(beta, x) | seq_along(beta) %in% infinite_terms(heard)
  list(
    formula = paste("Surv(gap_days, event) ~", paste(c(colnames(x), "cluster(user_id)"), collapse = " + ")),
    terms = recipe$terms,
    beta = beta,
    naive_se = if (is.null(model$var)) numeric() else sqrt(diag(model$var)),
    robust_se = if (full) robust_errors(sets, data$user_id, model$var),
    means = means,
    separated = separated,
    estimated = !(separated | unknown),
    log_likelihood = rep_len(model$loglik, 2L),
    concordance = if (ncol(x) == 0L) 0.5 else unname(model$concordance["concordance"]),
    model = model,
    baseline = sets$baseline,
    notes = c(
      if (any(separated)) {
        paste0(
          "Separation: ", paste(colnames(x)[separated], collapse = ", "),
          " alone decides who comes back, so that no finite hazard ratio fits best."
        )
      },
      if (any(unknown)) {
        terms <- paste(colnames(x)[unknown], collapse = ", ")
        paste0(terms, " has no estimate: it does not vary among those who could come back.")
      },
      heard[!grepl("may be infinite", heard, fixed = TRUE)]
    )
  )
}

#' The risk sets of a fit: who could have come back when somebody did.
#'
#' Efron's treatment of ties: of d visits that end at one time, the l-th (l = 0, ..., d - 1) faces a risk
#' set from which l/d of the weight of all d is gone (Therneau & Grambsch, Modeling Survival Data, 2000,
#' section 3.3). survival's own score residuals take time quadratic in the number of ties; whole days tie
#' nearly everybody.
#'
#' @param x the design less its means. @param beta its coefficients.
#' @return list: `baseline` (step function of days: cumulative hazard where x = 0) and `score` (matrix like
#'   x: each row's share in the score, ibid. section 4.2).
risk_sets <- function(data, x, beta) {
  ratio <- hazard_ratio(x, beta)
  event <- which(data$event)
  times <- sort(unique(data$gap_days[event]))
  last <- findInterval(data$gap_days, times) # how many of the event times each row lived to see
  weight <- cbind(1, x) * ratio
  by_last <- rowsum(rbind(weight, matrix(0, length(times), ncol(weight))), c(last, seq_along(times)))
  by_last <- by_last[rownames(by_last) != "0", , drop = FALSE]
  at_risk <- apply(by_last, 2L, function(column) rev(cumsum(rev(column))))
  at_risk <- matrix(at_risk, nrow = length(times))
  ending <- rowsum(weight[event, , drop = FALSE], last[event])
  tied <- tabulate(last[event], length(times))
  at <- rep(seq_along(times), tied)
  gone <- (sequence(tied) - 1) / tied[at]
  left <- at_risk[at, , drop = FALSE] - gone * ending[at, , drop = FALSE]
  mean_x <- left[, -1L, drop = FALSE] / left[, 1L]
  step <- cbind(1, mean_x) / left[, 1L] # hazard, and hazard times mean of x

  upto <- function(steps) apply(rbind(0, rowsum(steps, at)), 2L, cumsum)
  whole <- matrix(upto(step), ncol = ncol(weight))
  own <- rowsum((1 - gone) * step, at) # a tied row is in each set with what is left of it
  seen <- whole[last + 1L, , drop = FALSE]
  seen[event, ] <- whole[last[event], , drop = FALSE] + own[last[event], , drop = FALSE]
  score <- -ratio * (x * seen[, 1L] - seen[, -1L, drop = FALSE])
  observed <- rowsum(mean_x, at) / tied
  surprise <- x[event, , drop = FALSE] - observed[last[event], , drop = FALSE]
  score[event, ] <- score[event, , drop = FALSE] + surprise
  list(baseline = stats::stepfun(times, whole[, 1L]), score = score)
}

#' Standard errors robust to several visits of one user: the sandwich with summed scores between.
robust_errors <- function(sets, user_id, variance) {
  if (ncol(sets$score) == 0L) return(numeric())
  influence <- rowsum(sets$score %*% variance, match(user_id, unique(user_id)))
  sqrt(colSums(influence^2))
}

#' Whether each term alone decides who comes back, whatever its unit.
steep_terms <- function(beta, x) abs(beta) * apply(x, 2L, stats::sd) > separation_limit

# Positions of the terms that coxph's warning names, as in "Loglik converged before variable 1,3; ...".
infinite_terms <- function(warnings) {
  named <- regmatches(warnings, regexpr("(?<=before variable)[ 0-9,]+", warnings, perl = TRUE))
  as.integer(unlist(strsplit(gsub(" ", "", named), ",")))
}

coefficient_table <- function(fit) {
  beta <- ifelse(fit$estimated, fit$beta, NA_real_)
  se <- ifelse(fit$estimated, fit$naive_se, NA_real_)
  robust_se <- ifelse(fit$estimated, fit$robust_se, NA_real_)
  z <- beta / robust_se
  width <- stats::qnorm((1 + confidence) / 2) * robust_se
  data.frame(
    term = fit$terms, estimate = beta, se = se, robust_se = robust_se, z = z, p = 2 * stats::pnorm(-abs(z)),
    lower = beta - width, upper = beta + width, row.names = NULL
  )
}

#' Test of proportional hazards by scaled Schoenfeld residuals (Grambsch & Therneau, Biometrika 81:515, 1994).
proportional_hazards_test <- function(fit) {
  untested <- data.frame(term = character(), chisq = numeric(), df = numeric(), p = numeric())
  if (length(fit$terms) == 0L || !all(fit$estimated)) return(untested)
  # its information matrix has no inverse where no time with an event compares different rows
  table <- tryCatch(
    survival::cox.zph(fit$model, transform = "km", terms = FALSE)$table,
    error = function(e) if (grepl("singular", conditionMessage(e), fixed = TRUE)) NULL else stop(e)
  )
  if (is.null(table)) return(untested)
  terms <- c(fit$terms, "GLOBAL")
  if (nrow(table) == 1L) table <- rbind(table, table) # one term: the global test is its own
  data.frame(
    term = terms, chisq = table[, "chisq"], df = table[, "df"], p = table[, "p"], row.names = NULL
  )
}

#' Probability that the next visit comes within `threshold` days of the last, given `away` days without one.
return_probability <- function(baseline, relative_hazard, away, threshold) {
  hazard <- (baseline(threshold) - baseline(away)) * relative_hazard
  ifelse(away >= threshold, 0, -expm1(-pmax(hazard, 0)))
}

relative_hazard <- function(fit, recipe, data) {
  hazard_ratio(sweep(design_matrix(recipe, data), 2L, fit$means), fit$beta)
}

# Bounded, so that an absurd value (or a separating term) gives probabilities of 0 or 1, and no NaN.
hazard_ratio <- function(x, beta) exp(pmin(pmax(drop(x %*% beta), -100), 100))

score_users <- function(score, fit, recipe, threshold) {
  if (is.null(score) || nrow(score) == 0L) return(data.frame(user_id = character(), survival = numeric()))
  ratio <- relative_hazard(fit, recipe, score)
  data.frame(
    user_id = score$user_id, survival = return_probability(fit$baseline, ratio, score$days_away, threshold)
  )
}

#' Kaplan-Meier share of visits not yet followed by another after whole days, with log-log intervals.
survival_curve <- function(used) {
  curve <- survival::survfit(
    survival::Surv(used$gap_days, used$event) ~ 1,
    conf.type = "log-log", conf.int = confidence
  )
  days <- 0:min(curve_days, floor(max(used$gap_days)))
  at <- summary(curve, times = days, extend = TRUE)
  data.frame(
    day = days, survival = at$surv, lower = ifelse(is.na(at$lower), at$surv, at$lower),
    upper = ifelse(is.na(at$upper), at$surv, at$upper)
  )
}

# ---- Hold-out: how good the predictions were that could have been made `holdout_days` ago

#' Fits on what was known at the cutoff, as_of_day - holdout_days - threshold, and predicts at weekly
#' landmarks after it (van Houwelingen, Scand J Stat 34:70, 2007), for every user who was then away for less
#' than the threshold, whether they come back in time.
#'
#' @return list: n predictions, base_rate, Brier scores (of the model, of the base rate itself, and of a
#'   model that knows the gap alone), concordance, slope and intercept of a logistic calibration, bins; NULL
#'   where there is nothing to fit or to predict.
evaluate_holdout <- function(visits, covariates, threshold, holdout_days, as_of_day) {
  cutoff <- as_of_day - holdout_days - threshold
  past <- visits[visits$day < cutoff, ]
  past$event <- past$event & past$day + past$gap_days <= cutoff
  past$gap_days <- pmin(past$gap_days, cutoff - past$day)
  landmarks <- seq(cutoff, as_of_day - threshold, by = 7)
  due <- do.call(rbind, lapply(landmarks, function(day) {
    rows <- visits[visits$day <= day & day < visits$day + visits$gap_days & day - visits$day < threshold, ]
    rows$away <- rep(day, nrow(rows)) - rows$day
    rows
  }))
  if (!any(past$event) || nrow(due) == 0L) return(NULL)
  recipe <- covariate_recipe(past, covariates)
  past <- past[recipe$complete, ]
  if (!any(past$event) || length(unique(past$user_id)) < 2L) return(NULL)

  fit <- fit_cox(past, recipe, full = FALSE)
  predicted <- return_probability(fit$baseline, relative_hazard(fit, recipe, due), due$away, threshold)
  gap_only <- fit_cox(past, covariate_recipe(past, character()), full = FALSE)
  by_gap <- return_probability(gap_only$baseline, 1, due$away, threshold)
  came_back <- as.numeric(due$event & due$gap_days <= threshold)
  assess(predicted, by_gap, came_back)
}

assess <- function(predicted, by_gap, came_back) {
  base_rate <- mean(came_back)
  brier <- function(p) mean((p - came_back)^2)
  both <- base_rate > 0 && base_rate < 1
  calibration <- if (both) calibration_line(predicted, came_back) else c(NA_real_, NA_real_)
  edges <- unique(stats::quantile(predicted, seq(0, 1, 0.1), names = FALSE))
  bin <- pmax(1L, findInterval(predicted, edges, rightmost.closed = TRUE))
  list(
    n = length(predicted), base_rate = base_rate, brier = brier(predicted),
    brier_base_rate = brier(base_rate), brier_gap_only = brier(by_gap),
    concordance = if (both) unname(survival::concordance(came_back ~ predicted)$concordance) else NA_real_,
    calibration_slope = calibration[2L], calibration_intercept = calibration[1L],
    bins = data.frame(
      predicted = as.vector(tapply(predicted, bin, mean)), observed = as.vector(tapply(came_back, bin, mean)),
      n = as.vector(tapply(came_back, bin, length))
    )
  )
}

# Cox, Biometrika 45:562 (1958): logit(observed) = intercept + slope logit(predicted); 0 and 1 where
# calibrated.
calibration_line <- function(predicted, came_back) {
  odds <- stats::qlogis(pmin(pmax(predicted, 1e-6), 1 - 1e-6))
  if (stats::sd(odds) < 1e-9) return(c(NA_real_, NA_real_))
  line <- stats::glm.fit(cbind(1, odds), came_back, family = stats::binomial())
  unname(line$coefficients)
}
