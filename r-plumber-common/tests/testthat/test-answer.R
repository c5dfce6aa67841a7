toy <- function(fun) {
  request <- record(x = columns(v = number(), .min_rows = 1))
  route <- fit_route("/toy", "model", "", request, record(mean = nullable(number())))
  api <- service("toy", "0.1.0", routes = list(route))
  api$models <- list(model = fun)
  api
}

ask <- function(fun, body = '{"x": {"v": [1, 2]}}') {
  reply <- answer(toy(fun), "/toy", charToRaw(body))
  c(reply["status"], jsonlite::fromJSON(reply$body, simplifyVector = FALSE), reply["log"])
}

test_that("a fit's reply holds its seed, warnings, versions and time", {
  reply <- ask(function(body) {
    warning("raised")
    warning("raised")
    list(mean = mean(body$x$v), warnings = "returned")
  })
  expect_equal(reply$status, 200L)
  expect_equal(reply$mean, 1.5)
  expect_equal(reply$seed, 20251102)
  expect_equal(unlist(reply$warnings), c("returned", "raised"))
  expect_equal(reply$versions$R, as.character(getRversion()))
  expect_gte(reply$elapsed_secs, 0)
})

test_that("the seed of the request decides the random numbers", {
  draw <- function(seed) {
    ask(function(body) list(mean = stats::rnorm(1)), sprintf('{"x": {"v": [1]}, "seed": %d}', seed))$mean
  }
  expect_equal(draw(1), draw(1))
  expect_false(draw(1) == draw(2))
})

test_that("conditions of models become problems of their type, and no insides are told", {
  type <- function(reply) sub(".*:", "", reply$type)
  unfittable <- ask(function(body) abort_unfittable("No events."))
  told <- c(unfittable$status, type(unfittable), unfittable$detail)
  expect_equal(told, c("422", "unfittable", "No events."))
  unavailable <- ask(function(body) abort_unavailable("No model."))
  told <- c(unavailable$status, type(unavailable), unavailable$detail)
  expect_equal(told, c("503", "unavailable", "No model."))
  invalid <- ask(function(body) abort_invalid("x.v[1]", "must be later"))
  expect_equal(invalid$errors, list(list(field = "x.v[1]", message = "must be later")))
  broken <- ask(function(body) stop("secret of the inside"))
  expect_equal(c(broken$status, type(broken)), c("500", "internal"))
  expect_false(grepl("secret", broken$detail))
  expect_match(broken$log, "/toy: .*secret of the inside")
})

test_that("bodies that are no JSON are told apart from those that are not as declared", {
  mean_of <- function(body) list(mean = mean(body$x$v))
  for (body in c("", "{", "NaN", '{"x": NaN}', "[1,]", "{} {}", '{"x": {"v": ["a\\u0000b"]}}')) {
    expect_equal(ask(mean_of, body)$status, 400L, info = body)
  }
  expect_equal(answer(toy(mean_of), "/toy", as.raw(c(0x22, 0xff, 0x22)))$status, 400L)
  expect_equal(answer(toy(mean_of), "/toy", as.raw(0))$status, 400L)
  expect_equal(ask(mean_of, strrep("[", 1e5))$status, 400L)
  for (body in c("1", "null", "[]", '"text"', "{}", '{"x": {"v": ["NaN"]}}')) {
    expect_equal(ask(mean_of, body)$status, 422L, info = body)
  }
})

test_that("a reply of another form than declared is an error, not a reply", {
  expect_equal(ask(function(body) list(median = 1))$status, 500L)
})
