# Data and requests for the tests.

# LSAT section 6: how many of 1,000 examinees gave each pattern of right and wrong answers to five questions.
# Bock & Lieberman (1970), Psychometrika 35, 179-197, table 1.
lsat6_patterns <- c(
  "00000" = 3, "00001" = 6, "00010" = 2, "00011" = 11, "00100" = 1, "00101" = 1, "00110" = 3, "00111" = 4,
  "01000" = 1, "01001" = 8, "01011" = 16, "01101" = 3, "01110" = 2, "01111" = 15, "10000" = 10, "10001" = 29,
  "10010" = 14, "10011" = 81, "10100" = 3, "10101" = 28, "10110" = 15, "10111" = 80, "11000" = 16,
  "11001" = 56, "11010" = 21, "11011" = 173, "11100" = 11, "11101" = 61, "11110" = 28, "11111" = 298
)

lsat6 <- function() {
  correct <- do.call(rbind, strsplit(rep(names(lsat6_patterns), lsat6_patterns), ""))
  data.frame(
    user_id = sprintf("u%04d", row(correct)), item_id = sprintf("Q%d", col(correct)),
    correct = as.integer(correct)
  )
}

#' Answers of learners to items with known parameters; each learner answers `n_each` items drawn at random.
simulate_answers <- function(n_users, n_items, n_each, seed, mean = 0, sd = 1,
                             a = exp(stats::rnorm(n_items, 0, .3)), b = stats::rnorm(n_items), lower = 0) {
  set.seed(seed)
  truth <- data.frame(item_id = sprintf("i%03d", seq_len(n_items)), a = a, b = b)
  theta <- stats::rnorm(n_users, mean, sd)
  user <- rep(seq_len(n_users), each = n_each)
  item <- as.vector(vapply(seq_len(n_users), function(j) sample.int(n_items, n_each), integer(n_each)))
  p <- lower + (1 - lower) * stats::plogis(a[item] * (theta[user] - b[item]))
  list(
    items = truth, theta = theta,
    responses = data.frame(
      user_id = sprintf("u%05d", user), item_id = truth$item_id[item],
      correct = as.integer(stats::runif(length(p)) < p)
    )
  )
}

calibrate <- function(responses, model = "2PL", min_answers = 30, anchors = NULL, linking = "mean-sigma",
                      max_iterations = 500, tolerance = 1e-5, prior_a = NULL, equal_groups = FALSE) {
  calibrate_irt(list(
    responses = responses, model = model, min_answers = min_answers, anchors = anchors, linking = linking,
    max_iterations = max_iterations, tolerance = tolerance, prior_a = prior_a,
    equal_groups = equal_groups
  ))
}
