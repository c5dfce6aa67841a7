# From rows of answers to the sparse matrices that the model works on, and which items are fit to be fitted.

#' Check a table of answers and drop the unscored ones.
#'
#' @param responses data frame: `user_id`, `item_id` (text), `correct` (0, 1, or NA where unscored).
#' @return the scored rows ordered by user and item, so that a fit does not depend on the order of rows; the
#'   ids are factors whose levels are sorted.
#' Raises `invalid` where a user has two answers to one item, `unfittable` where none is scored.
scored_responses <- function(responses) {
  stopifnot(
    is.data.frame(responses), all(c("user_id", "item_id", "correct") %in% names(responses)),
    all(responses$correct %in% c(0, 1, NA))
  )
  scored <- !is.na(responses$correct)
  if (!any(scored)) {
    seedplumber::abort_unfittable("There is no scored answer: `correct` is missing in every row.")
  }
  user <- as_sorted_factor(responses$user_id[scored])
  item <- as_sorted_factor(responses$item_id[scored])
  order <- order(user, item, method = "radix")
  correct <- responses$correct[scored]
  responses <- data.frame(user_id = user[order], item_id = item[order], correct = correct[order])
  pair <- (as.numeric(responses$user_id) - 1) * nlevels(item) + as.numeric(responses$item_id)
  twice <- which(diff(pair) == 0)
  if (length(twice) > 0) {
    seedplumber::abort_invalid("responses", sprintf(
      "must hold one answer of a user to an item; %d are repeated (first: user %s, item %s)",
      length(twice), responses$user_id[twice[1]], responses$item_id[twice[1]]
    ))
  }
  responses
}

#' A factor with its levels in the order of the C locale: the same on every machine.
as_sorted_factor <- function(id) {
  id <- as.character(id)
  levels <- sort(unique(id), method = "radix")
  structure(match(id, levels), levels = levels, class = "factor")
}

#' The answers as sparse matrices of users (rows) and items (columns), in blocks of users.
#'
#' @param responses scored rows, as of `scored_responses()`.
#' @param users,items ids in the order of rows and columns; answers of other users or to other items are left
#'   out.
#' @param block_size users in a block: bounds the memory of everything that is users x grid or users x items.
#' @return list of blocks: `rows` (indices into `users`), `answered` (dgCMatrix of ones: who answered what)
#'   and `correct` (same pattern, 0 or 1).
response_blocks <- function(responses, users, items,
                            block_size = max(256L, min(4096L, 2e6 %/% length(items)))) {
  row <- match(levels(responses$user_id), users)[responses$user_id]
  column <- match(levels(responses$item_id), items)[responses$item_id]
  kept <- !is.na(row) & !is.na(column)
  # 1 and 2 instead of 0 and 1: a stored zero could be dropped from a sparse matrix.
  coded <- Matrix::sparseMatrix(
    i = row[kept], j = column[kept], x = responses$correct[kept] + 1, dims = c(length(users), length(items))
  )
  starts <- seq(1L, length(users), by = block_size)
  lapply(starts, function(start) {
    rows <- start:min(start + block_size - 1L, length(users))
    correct <- answered <- coded[rows, , drop = FALSE]
    correct@x <- correct@x - 1
    answered@x <- rep(1, length(answered@x))
    list(rows = rows, answered = answered, correct = correct)
  })
}

#' Answers and right answers of each item.
#' @return data frame: `item_id` (text), `n_responses`, `p_correct` (0..1).
item_counts <- function(responses) {
  items <- levels(responses$item_id)
  n <- tabulate(responses$item_id, length(items))
  right <- tabulate(responses$item_id[responses$correct == 1], length(items))
  data.frame(item_id = items, n_responses = n, p_correct = right / n)
}

#' The items that cannot be calibrated, with the reason in words.
#' @return data frame: `item_id`, `n_responses`, `p_correct`, `reason`.
unfit_items <- function(counts, min_answers) {
  reason <- rep(NA_character_, nrow(counts))
  reason[counts$p_correct == 0] <- "all answers are wrong: the difficulty has no finite estimate"
  reason[counts$p_correct == 1] <- "all answers are right: the difficulty has no finite estimate"
  few <- counts$n_responses < min_answers
  reason[few] <- sprintf("%d answers, fewer than the %d asked for", counts$n_responses[few], min_answers)
  excluded_items(counts, counts$item_id[!is.na(reason)], reason[!is.na(reason)])
}

excluded_items <- function(counts, item_id, reason) {
  at <- match(item_id, counts$item_id)
  cbind(counts[at, , drop = FALSE], reason = rep_len(reason, length(at)), row.names = NULL)
}

#' Connected components of the graph whose edges are answers (user - item).
#' @param blocks as of `response_blocks()`.
#' @return data frame, largest first: `component`, `n_responses`; its attribute `of_item` is the component of
#'   each item.
connected_components <- function(blocks) {
  answered <- do.call(rbind, lapply(blocks, `[[`, "answered"))
  n_responses <- Matrix::colSums(answered)
  component <- integer(ncol(answered))
  while (any(component == 0)) {
    reached <- replace(numeric(ncol(answered)), which(component == 0)[1], 1)
    repeat {
      further <- as.numeric(Matrix::crossprod(answered, answered %*% reached > 0) > 0)
      if (sum(further) == sum(reached)) break
      reached <- further
    }
    component[reached > 0] <- max(component) + 1L
  }
  sizes <- as.vector(tapply(n_responses, component, sum))
  rank <- order(-sizes)
  structure(
    data.frame(component = seq_along(sizes), n_responses = sizes[rank]),
    of_item = match(component, rank)
  )
}
