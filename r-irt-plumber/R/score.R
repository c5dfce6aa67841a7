#' Abilities of learners, given calibrated items: posterior mean (EAP, Bock & Mislevy 1982) and posterior sd.
#'
#' @param body list: `items` (data frame `item_id`, `a` > 0, `b`), `responses` (as for `calibrate_irt()`), and
#'   `population` (list `mean`, `sd`: the normal prior of ability; that of a calibration is in its reply).
#' @return list: `abilities` (data frame `user_id`, `theta`, `se`, `n_responses`; a learner without an answer
#'   to any of the items has the prior's mean and sd and `n_responses` 0), `warnings`.
#' Raises `invalid` for an item or an answer given twice.
score_irt <- function(body) {
  items <- body$items
  stopifnot(all(is.finite(items$a)), all(items$a > 0), all(is.finite(items$b)), body$population$sd > 0)
  if (anyDuplicated(items$item_id) > 0) {
    seedplumber::abort_invalid("items.item_id", sprintf(
      "must name an item once, but %s is there twice", items$item_id[anyDuplicated(items$item_id)]
    ))
  }
  user_id <- sort(unique(as.character(body$responses$user_id)), method = "radix")
  responses <- scored_responses(body$responses)
  unknown <- !(levels(responses$item_id) %in% items$item_id)[responses$item_id]
  grid <- ability_grid()
  slope <- items$a * body$population$sd
  intercept <- items$a * (body$population$mean - items$b)
  soft <- soft_plus(slope, intercept, grid)
  abilities <- lapply(response_blocks(responses, user_id, items$item_id), function(block) {
    weight <- posterior(block, slope, intercept, soft, grid)$weight
    mean <- as.vector(weight %*% grid$z)
    data.frame(
      user_id = user_id[block$rows],
      theta = body$population$mean + body$population$sd * mean,
      se = body$population$sd * sqrt(rowSums(weight * outer(-mean, grid$z, `+`)^2)),
      n_responses = Matrix::rowSums(block$answered)
    )
  })
  list(
    abilities = do.call(rbind, abilities),
    warnings = if (any(unknown)) {
      sprintf(
        "%d answers to %d items without parameters were left out.",
        sum(unknown), length(setdiff(levels(responses$item_id), items$item_id))
      )
    }
  )
}
