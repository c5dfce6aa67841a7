#' A small calibration, so that a worker's first request does not pay for loading and byte-compiling. Three
#' iterations run every function.
warm_irt <- function() {
  learner <- rep(1:60, each = 5)
  item <- rep(1:5, 60)
  # Deterministic answers in which abler learners do better and no item is all right or all wrong.
  correct <- as.integer((learner * 7 + item * 13) %% 11 + learner / 12 > 2 * item)
  responses <- data.frame(user_id = paste0("u", learner), item_id = paste0("i", item), correct = correct)
  calibrate_irt(list(
    responses = responses, model = "1PL", min_answers = 2, linking = "mean-sigma", max_iterations = 3,
    tolerance = 1e-3
  ))
  invisible(NULL)
}
