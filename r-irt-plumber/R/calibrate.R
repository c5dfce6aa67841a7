#' Calibrate items and estimate abilities: 1PL or 2PL, marginal maximum likelihood.
#'
#' @param body list: `responses` (data frame `user_id`, `item_id`, `correct` 0, 1 or NA = unscored, left out);
#'   `model` "2PL" or "1PL"; `min_answers` (items with fewer are excluded); `anchors` (data frame `item_id`,
#'   `a` > 0, `b`, or NULL) with `linking` "fixed" (their a and b are held, mean and sd of ability estimated)
#'   or "mean-sigma" (estimated as the others, then all is moved to their scale); `prior_a` (list `meanlog`,
#'   `sdlog` of a lognormal prior, or NULL); `equal_groups` (TRUE: groups of learners that share no item are
#'   equally able, as in a randomised design); `max_iterations`, `tolerance` (converged when an EM step moves
#'   no slope or intercept by more).
#' @return list as in docs/models/irt.md: `items`, `excluded`, `abilities`, `linking`, `population`, `fit` and
#'   the scalars of the fit. `converged` is FALSE where EM did not settle, `determined` where the observed
#'   information at the end is not positive definite (standard errors are NA then).
#' Raises `invalid` (an answer or anchor given twice) and `unfittable` (nothing can be calibrated, items fall
#' into groups without common learners, or the anchors cannot carry the scale).
calibrate_irt <- function(body) {
  stopifnot(
    body$model %in% c("1PL", "2PL"), body$min_answers >= 2, body$max_iterations >= 1, body$tolerance > 0
  )
  responses <- scored_responses(body$responses)
  anchors <- present_anchors(body$anchors, responses)
  method <- if (is.null(anchors)) "none" else body$linking
  fitted <- fit_fittable(responses, body, held = if (method == "fixed") anchors)

  design <- fitted$design
  standard <- expand(fitted$parameters, design)
  pass <- posterior_pass(fitted$blocks, standard, fitted$grid)
  covariance <- parameter_covariance(pass$information, fitted$parameters, design)
  scale <- switch(method,
    none = c(1, 0),
    fixed = rev(fitted$parameters[design$population]),
    "mean-sigma" = mean_sigma_of(anchors, fitted$item_id, standard)
  )

  items <- data.frame(item_id = fitted$item_id, a = NA_real_, b = NA_real_, se_a = NA_real_, se_b = NA_real_)
  items[design$free, -1] <- report_items(fitted$parameters, covariance, design, scale)
  items[design$anchor, c("a", "b")] <- cbind(design$a, design$b)
  counts <- fitted$counts[match(items$item_id, fitted$counts$item_id), ]
  items <- cbind(
    items, counts[c("n_responses", "p_correct")], item_fit(pass$n, pass$correct, standard, fitted$grid),
    status = ifelse(items$item_id %in% anchors$item_id, "anchor", "fitted"), row.names = NULL
  )
  n_users <- length(fitted$answers)
  dependence <- local_dependence(pass$residual, fitted$item_id)
  list(
    model = body$model,
    converged = fitted$converged,
    determined = !is.null(covariance),
    n_iterations = fitted$n_iterations,
    log_likelihood = pass$log_likelihood,
    aic = -2 * pass$log_likelihood + 2 * design$n_parameters,
    bic = -2 * pass$log_likelihood + log(n_users) * design$n_parameters,
    n_parameters = design$n_parameters,
    n_users = n_users,
    n_items = nrow(items),
    n_responses = sum(items$n_responses),
    components = fitted$components,
    items = items,
    excluded = fitted$excluded,
    abilities = data.frame(
      user_id = names(fitted$answers), theta = scale[1] * pass$theta + scale[2], se = scale[1] * pass$se,
      n_responses = unname(fitted$answers)
    ),
    linking = if (method != "none") linking_summary(method, scale, anchors, items),
    population = list(mean = scale[2], sd = scale[1]),
    fit = list(
      # The share of the variance of ability that the estimates carry (Bechger et al. 2003).
      reliability = stats::var(pass$theta) / (stats::var(pass$theta) + mean(pass$se^2)),
      # Of answers that depend on the item alone: what the model must beat.
      null_log_likelihood = with(counts, sum(n_responses * (xlogx(p_correct) + xlogx(1 - p_correct)))),
      median_infit = stats::median(items$infit), median_outfit = stats::median(items$outfit),
      n_pairs = dependence$n_pairs, mean_q3 = dependence$mean_q3, n_dependent_pairs = dependence$n_flagged
    ),
    dependent_pairs = dependence$pairs,
    warnings = c(
      fitted$warnings, fit_warnings(fitted, isTRUE(body$equal_groups)),
      if (!is.null(body$prior_a)) {
        theta <- stats::setNames(pass$theta, names(fitted$answers))
        key_warning(reversed_items(responses, theta, fitted$item_id))
      }
    )
  )
}

#' Items that abler learners get wrong. Without a prior their a is below 0 and they are left out
#' (slope_faults); a lognormal prior keeps any a above 0.
#' @param theta ability by user_id.
#' @return item_id of those whose right answers come from learners less able by two standard errors.
reversed_items <- function(responses, theta, item_id) {
  rows <- responses[as.character(responses$item_id) %in% item_id, ]
  ability <- theta[as.character(rows$user_id)]
  item <- factor(as.character(rows$item_id), item_id)
  of <- function(correct, fun) {
    chosen <- rows$correct == correct
    as.vector(tapply(ability[chosen], item[chosen], fun))
  }
  square_error <- function(x) stats::var(x) / length(x)
  z <- (of(1, mean) - of(0, mean)) / sqrt(of(1, square_error) + of(0, square_error))
  item_id[!is.na(z) & z < stats::qnorm(.025)]
}

key_warning <- function(item_id) {
  if (length(item_id) == 0) return(NULL)
  paste0(
    "Abler learners get these items wrong, and only the prior keeps their discrimination above 0; ",
    "check their keys: ", paste(item_id, collapse = ", "), "."
  )
}

xlogx <- function(x) ifelse(x > 0, x * log(x), 0)

#' Fit, and fit again without the items that turn out to have no positive or no finite discrimination, or to
#' share no learner with the others.
#' @param held anchors whose a and b are held, or NULL.
#' @return list: the last fit (`parameters`, `converged`, `design`, `blocks`, `grid`), `item_id`, `answers`
#'   (per user), `counts`, `excluded`, `components` (before any was left out), `n_iterations` (in all),
#'   `warnings`.
fit_fittable <- function(responses, body, held) {
  counts <- item_counts(responses)
  excluded <- unfit_items(counts[!counts$item_id %in% held$item_id, ], body$min_answers)
  exclude <- function(item_id, reason) excluded <<- rbind(excluded, excluded_items(counts, item_id, reason))
  grid <- ability_grid()
  warnings <- character()
  components <- n_iterations <- 0L
  previous <- NULL
  repeat {
    item_id <- setdiff(counts$item_id, excluded$item_id)
    answers <- user_answers(responses, item_id)
    check_enough(length(item_id), answers, body$model, !is.null(held), excluded)
    blocks <- response_blocks(responses, names(answers), item_id)
    found <- connected_components(blocks)
    components <- max(components, nrow(found))
    if (nrow(found) > 1 && !isTRUE(body$equal_groups)) {
      apart <- item_id[attr(found, "of_item") != 1]
      warnings <- c(warnings, check_main_component(found, length(apart)))
      exclude(apart, "shares no learner with the items that were calibrated")
      next
    }
    kept <- held[held$item_id %in% item_id, ]
    if (!is.null(held)) require_two(nrow(kept), nrow(held), "share learners with the other items")
    design <- model_design(
      length(item_id), body$model,
      anchor = match(kept$item_id, item_id), a = kept$a, b = kept$b, prior = body$prior_a
    )
    start <- start_parameters(blocks, design)
    if (!is.null(previous)) start <- carry_over(start, previous, item_id, design)
    # Most of the way on a grid that costs a third, the rest on the one that counts.
    rough <- fit_em(blocks, design, ability_grid(21L), max(1e-2, body$tolerance), body$max_iterations, start)
    fit <- fit_on_scale(blocks, design, grid, body, rough$parameters)
    n_iterations <- n_iterations + rough$n_iterations + fit$n_iterations
    reason <- slope_faults(fit$parameters, design)
    if (all(is.na(reason))) {
      return(list(
        parameters = fit$parameters, converged = fit$converged, design = fit$design, blocks = blocks,
        grid = grid, item_id = item_id, answers = answers, counts = counts, excluded = excluded,
        components = components, n_iterations = n_iterations, warnings = warnings
      ))
    }
    exclude(item_id[design$free][!is.na(reason)], reason[!is.na(reason)])
    previous <- list(item_id = item_id, design = design, parameters = fit$parameters)
  }
}

#' Fit with the prior on a in the unit of held anchors, where there are any: slope = a * sd of ability.
#'
#' As a part of what is maximised, the prior would pull the sd, which anchors tell, to where the other items'
#' a are likelier. So it is put at an sd, and what is sought is the one that the fit then finds again, by
#' secant steps on its logarithm: the sd that is found falls where the prior is put at a larger one, and to go
#' on from it may swing for ever.
#' @return as of `fit_em()`, with the `design` whose prior is in place.
#' Raises `unfittable` as soon as held anchors do not place the learners: an sd that runs off to 0 has no
#' logarithm to go by.
fit_on_scale <- function(blocks, design, grid, body, start, most_rounds = 20L) {
  fit_from <- function(start) {
    fit <- fit_em(blocks, design, grid, body$tolerance, body$max_iterations, start)
    check_population(fit$parameters, design)
    fit
  }
  if (!prior_moves(design)) return(c(fit_from(start), list(design = design)))
  check_population(start, design)
  sd_at <- design$population[2]
  unit <- start[sd_at]
  n_iterations <- 0L
  for (round in seq_len(most_rounds)) {
    design$prior$meanlog <- body$prior_a$meanlog + log(unit)
    fit <- fit_from(start)
    n_iterations <- n_iterations + fit$n_iterations
    off <- log(fit$parameters[sd_at] / unit)
    settled <- abs(off) < max(1e-4, body$tolerance)
    if (settled || !fit$converged) break
    step <- if (round == 1L) off / 2 else off * last_step / (last_off - off)
    step <- if (is.finite(step)) max(-.5, min(.5, step)) else off / 2
    last_step <- step
    last_off <- off
    unit <- unit * exp(step)
    start <- fit$parameters
  }
  list(
    parameters = fit$parameters, converged = fit$converged && settled, n_iterations = n_iterations,
    design = design
  )
}

#' Held anchors place the learners only where some answers to them are right, some wrong, and learners differ.
check_population <- function(parameters, design) {
  population <- parameters[design$population]
  if (length(population) > 0 && (abs(population[1]) > 10 || population[2] < .05 || population[2] > 20)) {
    seedplumber::abort_unfittable(sprintf(
      "The held anchors put the mean ability at %.1f with an sd of %.2g: they do not fit these answers.",
      population[1], population[2]
    ))
  }
}

#' Start the next fit where the last one ended.
carry_over <- function(start, previous, item_id, design) {
  from <- match(item_id[design$free], previous$item_id[previous$design$free])
  start[design$intercepts] <- previous$parameters[previous$design$intercepts[from]]
  start[design$slopes] <- previous$parameters[if (design$model == "1PL") 1L else previous$design$slopes[from]]
  start[design$population] <- previous$parameters[previous$design$population]
  start
}

#' Why an item's discrimination cannot be used; NA where it can.
#'
#' An item with a below 0 is answered worse by the abler: its key is wrong, or it does not measure what the
#' others do. It has no difficulty on their scale, and would lower the ability of whoever gets it right, so it
#' is left out and the others are fitted without it.
slope_faults <- function(parameters, design) {
  slope <- parameters[design$slopes]
  if (length(slope) > 0 && design$model == "1PL") {
    if (slope < min_discrimination) {
      seedplumber::abort_unfittable(paste(
        "The common discrimination is not above 0: right answers of a learner do not go together,",
        "so these items measure no common ability."
      ))
    }
    return(rep(NA_character_, length(design$free)))
  }
  reason <- rep(NA_character_, length(slope))
  negative <- slope < min_discrimination
  reason[negative] <- sprintf(
    "discrimination a = %.2f is not above 0: abler learners answer it no better; check its key",
    slope[negative]
  )
  reason[slope >= max_discrimination] <- sprintf(
    "discrimination has no finite estimate (a > %g): too few answers, or give a prior on a",
    max_discrimination
  )
  reason
}

#' Answers of each user to the given items (named, without users who have none).
user_answers <- function(responses, item_id) {
  counted <- (levels(responses$item_id) %in% item_id)[responses$item_id]
  answers <- tabulate(responses$user_id[counted], nlevels(responses$user_id))
  stats::setNames(answers, levels(responses$user_id))[answers > 0]
}

check_enough <- function(n_items, answers, model, is_anchored, excluded) {
  # With fewer items the answers have no more patterns than there are parameters.
  needed <- if (model == "1PL" || is_anchored) 2L else 3L
  left_out <- if (nrow(excluded) > 0) {
    sprintf(" %d were left out; %s: %s.", nrow(excluded), excluded$item_id[1], excluded$reason[1])
  } else {
    ""
  }
  if (n_items < needed) {
    seedplumber::abort_unfittable(sprintf(
      "%d items can be calibrated; the %s needs %d.%s", n_items, model, needed, left_out
    ))
  }
  if (!any(answers >= needed)) {
    seedplumber::abort_unfittable(sprintf(
      "No learner answered %d of the items that can be calibrated, so nothing tells items from abilities.%s",
      needed, left_out
    ))
  }
}

#' Items that share no learner, even through others, can be compared only by assuming that their learners are
#' equally able. A few stray ones are left out with a warning; otherwise there is no one scale, and somebody
#' has to choose.
#' @return the warning.
check_main_component <- function(found, n_items_apart, least_share = .8) {
  share <- found$n_responses[1] / sum(found$n_responses)
  if (share < least_share) {
    seedplumber::abort_unfittable(sprintf(
      paste(
        "The items fall into %d groups that no learner connects; the largest has %.0f %% of the answers.",
        "Abilities and difficulties cannot be compared between groups: calibrate them one by one, or say",
        "equal_groups where their learners are equally able, as in a randomised design."
      ), nrow(found), 100 * share
    ))
  }
  sprintf(
    "The items fall into %d groups that no learner connects: %d items (%.1f %% of the answers) are left out.",
    nrow(found), n_items_apart, 100 * (1 - share)
  )
}

fit_warnings <- function(fitted, equal_groups) {
  c(
    if (equal_groups && fitted$components > 1) {
      sprintf(
        "%d groups of items share no learner; they are on one scale only if their learners are equally able.",
        fitted$components
      )
    },
    if (length(fitted$item_id) > max_joint_items) {
      sprintf(
        paste(
          "With more than %d items, standard errors neglect what items share (up to a seventh too small),",
          "and pairs of items are not examined."
        ), max_joint_items
      )
    }
  )
}
