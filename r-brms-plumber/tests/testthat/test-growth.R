service <- seedplumber::load_service(service_dir)

answer <- function(path, ...) {
  json <- jsonlite::toJSON(list(...), dataframe = "columns", auto_unbox = TRUE, digits = NA)
  reply <- seedplumber::answer(service, path, as.character(json))
  c(reply["status"], jsonlite::fromJSON(reply$body))
}

rows <- simulated_rows(41, 20)

test_that("a fit from rows and one from their patterns are the same", {
  statistics <- growth_patterns(rows)
  from_rows <- answer("/growth/fit", rows = rows, seed = 3)
  from_patterns <- answer("/growth/fit", engine = "marginal", patterns = statistics$patterns,
                          sum_yy = statistics$sum_yy, seed = 3)
  expect_equal(from_rows$status, 200)
  expect_identical(from_patterns$draws, from_rows$draws)
})

test_that("a reply names its model, priors and parameters", {
  reply <- answer("/growth/fit", rows = rows, n_samples = 400, n_chains = 2)
  expect_equal(reply$formula, "score ~ week + (week | student)")
  expect_equal(reply$posterior_summary$parameter, growth_parameters)
  expect_equal(reply$priors$parameter, growth_parameters)
  expect_equal(reply$priors$prior[5], "lkj(2)")
  expect_equal(names(reply$draws), growth_parameters)
  expect_equal(lengths(reply$draws), stats::setNames(rep(400, 6), growth_parameters))
  expect_equal(reply$diagnostics[c("n_draws", "n_chains")], list(n_draws = 400, n_chains = 2))
  expect_equal(reply$posterior_summary$mean, unname(vapply(reply$draws, mean, 0)), tolerance = 1e-12)
})

test_that("a fit with failing diagnostics is returned with them", {
  reply <- answer("/growth/fit", rows = rows, n_samples = 100, n_chains = 1)
  expect_equal(reply$status, 200)
  expect_lt(reply$diagnostics$min_ess_bulk, 400)
})

test_that("a full tree is said", {
  expect_null(treedepth_warning(list(max_treedepth_hits = 0L, n_draws = 2000L)))
  expect_equal(treedepth_warning(list(max_treedepth_hits = 1L, n_draws = 2000L)),
               "1 of 2000 draws hit the maximal tree depth.")
})

test_that("what belongs to the other engine is refused by name", {
  field <- function(...) {
    reply <- answer("/growth/fit", ...)
    expect_equal(reply$status, 422)
    reply$errors$field
  }
  statistics <- growth_patterns(rows)
  expect_equal(field(engine = "marginal"), "patterns")
  expect_equal(field(engine = "marginal", patterns = statistics$patterns), "patterns")
  expect_equal(field(engine = "marginal", rows = rows, patterns = statistics$patterns), "rows")
  expect_equal(field(engine = "marginal", rows = rows, family = "student"), "family")
  expect_equal(field(engine = "marginal", rows = rows, predict = list(week = 1, goal = 1)), "predict")
  expect_equal(field(engine = "brms"), "rows")
  stranger <- list(week = 1, goal = 1, band = list(user_id = I("nobody"), at = I(0)))
  expect_equal(field(engine = "brms", rows = rows, predict = stranger), "predict.band.user_id")
  expect_equal(field(engine = "brms", rows = rows, patterns = statistics$patterns), "patterns")
})

test_that("data that cannot be fitted are refused in words by both engines", {
  for (engine in c("marginal", "brms")) {
    reply <- answer("/growth/fit", engine = engine, rows = rows[rows$user_id == "s00001", ])
    expect_equal(reply$status, 422)
    expect_match(reply$type, "unfittable$")
    expect_match(reply$detail, "at least two students")
  }
})

test_that("engine brms predicts its students, and some of them over weeks", {
  for (family in c("gaussian", "student")) {
    predict <- list(week = 0.7, goal = 1, band = list(user_id = I("s00002"), at = c(0, 0.7)))
    reply <- answer("/growth/fit", engine = "brms", family = family, rows = rows, n_samples = 200,
                    n_chains = 1, predict = predict)
    expect_equal(reply$status, 200)
    expect_equal(reply$predictions$user_id, sort(unique(rows$user_id)))
    expect_equal(reply$band$at, c(0, 0.7))
    same <- c("mean", "probability")
    expect_equal(lapply(reply$band[same], `[`, 2), lapply(reply$predictions[same], `[`, 2))
    expect_equal(reply$priors$parameter, reply$posterior_summary$parameter)
  }
})

test_that("draws of a fit are taken by /growth/predict as they are", {
  fit <- answer("/growth/fit", rows = rows, n_samples = 200)
  students <- student_sums(rows)
  reply <- answer("/growth/predict", draws = fit$draws, students = students, at = c(0.7, 1), goal = 1)
  expect_equal(reply$status, 200)
  expect_equal(reply$predictions$user_id, rep(sort(unique(rows$user_id)), 2))
  expect_true(all(reply$predictions$probability > 0 & reply$predictions$probability < 1))
})
