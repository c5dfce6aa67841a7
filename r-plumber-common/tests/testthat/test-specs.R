read_json <- function(spec, json) {
  issues <- issue_log()
  value <- read_value(spec, parse_json(json), "", issues)
  found <- issues$found()
  if (length(found) == 0L) return(value)
  stats::setNames(vapply(found, `[[`, "", "message"), vapply(found, `[[`, "", "field"))
}

rows <- record(
  visits = columns(
    user_id = string(), gap_days = number(above = 0), event = boolean(), seen = optional(date()),
    .extra = nullable(number()), .min_rows = 1
  ),
  threshold = optional(number(min = 0, max = 100), 14), model = optional(choice("1PL", "2PL"), "2PL")
)

test_that("columns become a data frame with the declared types", {
  json <- '{"visits": {"user_id": ["1", "NA"], "gap_days": [1, 2.5], "event": [true, false], "x": [null, 3]}}'
  value <- read_json(rows, json)
  expect_equal(
    value$visits,
    data.frame(user_id = c("1", "NA"), gap_days = c(1, 2.5), event = c(TRUE, FALSE), x = c(NA, 3))
  )
  expect_equal(value$threshold, 14)
  expect_equal(value$model, "2PL")
})

test_that("each fault is named with its place", {
  json <- '{"visits": {"user_id": ["a", 1], "gap_days": [0, "NaN"], "event": [true, 1], "x": [[1], 2]},
    "threshold": 101, "model": "3PL", "extra": 1}'
  expect_equal(
    sort(names(read_json(rows, json))),
    sort(c(
      "visits.user_id[1]", "visits.gap_days[1]", "visits.event[1]", "visits.x[0]", "threshold", "model",
      "extra"
    ))
  )
  expect_equal(
    read_json(record(x = columns(g = number(above = 0))), '{"x": {"g": [1, 0]}}'),
    c("x.g[1]" = "must be greater than 0")
  )
})

test_that("ragged, missing, repeated, unknown and null fields are refused", {
  expect_match(
    read_json(record(x = columns(a = number(), b = number())), '{"x": {"a": [1, 2], "b": [1]}}'),
    "equally long, but have a: 2, b: 1"
  )
  expect_equal(read_json(record(x = number()), "{}"), c(x = "is required"))
  expect_equal(read_json(record(x = number()), '{"x": 1, "x": 2}'), c(x = "is given more than once"))
  expect_equal(read_json(record(x = number()), '{"x": null}'), c(x = "must not be null"))
  expect_equal(read_json(record(x = number()), "[1]"), stats::setNames("must be an object", ""))
  expect_match(read_json(record(x = number()), '{"x": 1, "y": 1}')[["y"]], "not known here")
  empty <- '{"visits": {"user_id": [], "gap_days": [], "event": []}}'
  expect_match(read_json(rows, empty), "at least 1 rows")
})

test_that("numbers are finite, whole numbers whole, dates real", {
  expect_match(read_json(record(x = number()), '{"x": 1e999}'), "finite")
  expect_match(read_json(record(x = number()), '{"x": -1.1e50}'), "no larger than 1e50")
  expect_equal(read_json(record(x = number()), '{"x": -1e50}')$x, -1e50)
  expect_match(read_json(record(x = integer()), '{"x": 1.5}'), "whole")
  expect_match(read_json(record(x = integer()), '{"x": 3e9}'), "at most")
  expect_identical(read_json(record(x = integer()), '{"x": 3.0}')$x, 3L)
  expect_match(read_json(record(x = date()), '{"x": "2025-02-30"}'), "YYYY-MM-DD")
  expect_match(read_json(record(x = date()), '{"x": "2025-2-3"}'), "YYYY-MM-DD")
  expect_equal(read_json(record(x = date()), '{"x": "2025-02-03"}')$x, as.Date("2025-02-03"))
})

test_that("optional fields may be left out or null; nullable ones must be there", {
  expect_equal(read_json(record(x = optional(number(), 3)), "{}")$x, 3)
  expect_equal(read_json(record(x = optional(number(), 3)), '{"x": null}')$x, 3)
  expect_equal(read_json(record(x = nullable(number())), '{"x": null}')$x, NA_real_)
  expect_equal(read_json(record(x = nullable(number())), "{}"), c(x = "is required"))
})

test_that("arrays, records within arrays and dictionaries are read", {
  expect_equal(read_json(record(x = array_of(number())), '{"x": []}')$x, numeric())
  nested <- record(x = array_of(record(y = string())))
  expect_equal(read_json(nested, '{"x": [{"y": "a"}]}')$x, list(list(y = "a")))
  expect_equal(read_json(record(x = dictionary(number())), '{"x": {"a": 1}}')$x, list(a = 1))
  expect_match(read_json(record(x = array_of(number(), min_items = 2)), '{"x": [1]}'), "at least 2 items")
})

written <- function(spec, x) as.character(to_json(write_value(spec, x)))

test_that("scalars are bare and columns always arrays, at full precision, without NaN", {
  spec <- record(
    a = nullable(number()), b = columns(x = nullable(number()), d = date()), c = array_of(string()),
    d = nullable(record(z = number())), e = dictionary(string())
  )
  value <- list(
    a = NaN, b = data.frame(x = 1 / 3, d = as.Date("2025-01-06")), c = "one", d = NULL, e = list()
  )
  expect_equal(
    written(spec, value),
    '{"a":null,"b":{"x":[0.333333333333333],"d":["2025-01-06"]},"c":["one"],"d":null,"e":{}}'
  )
  empty <- list(x = data.frame(y = numeric()))
  expect_equal(written(record(x = columns(y = number())), empty), '{"x":{"y":[]}}')
})

test_that("a reply that is not as declared is an error", {
  expect_error(written(record(a = number()), list(b = 1)), "'b' is not declared")
  expect_error(written(record(a = number()), list()), "'a' is missing")
  expect_error(written(record(a = number()), list(a = 1:2)), "one value")
  wide <- list(a = list(x = 1, y = 2))
  expect_error(written(record(a = columns(x = number())), wide), "'a.y' is not declared")
})

test_that("what has no finite value is an error where the spec asks for one, and null where it may be", {
  for (nothing in list(NA_real_, NaN, Inf, -Inf)) {
    expect_error(written(record(a = number()), list(a = nothing)), "'a' has no finite value")
    expect_error(written(columns(x = number()), list(x = c(1, nothing))), "'x' has no finite value")
    expect_error(written(record(a = array_of(number())), list(a = c(nothing, 1))), "'a' has no finite value")
    expect_equal(written(record(a = nullable(number())), list(a = nothing)), '{"a":null}')
    rows <- columns(.extra = nullable(number()), x = optional(nullable(number())))
    expect_equal(written(rows, list(x = c(1, nothing), y = c(nothing, 2))), '{"x":[1,null],"y":[null,2]}')
  }
  expect_error(written(record(a = string()), list(a = NA_character_)), "'a' has no finite value")
  expect_error(written(record(a = number()), list(a = NULL)), "one value")
})

test_that("the schema says what reading does", {
  expect_equal(schema(number(min = 0, above = 0)), list(type = "number", minimum = 0, exclusiveMinimum = 0))
  found <- schema(rows)
  expect_equal(found$required, list("visits"))
  expect_false(found$additionalProperties)
  visits <- found$properties$visits
  expect_equal(visits$required, list("user_id", "gap_days", "event"))
  expect_equal(visits$additionalProperties$type, "array")
  expect_equal(visits$properties$gap_days$minItems, 1)
})

test_that("specs with unnamed or repeated fields are refused", {
  expect_error(record(number()), "distinct names")
  expect_error(record(a = number(), a = number()), "distinct names")
  expect_error(record(a = 1), "specs")
})
