test_that("defaults hold where nothing is set, and the token loses its white space", {
  settings <- read_settings(list(INTERNAL_TOKEN = "secret\n"))
  expect_equal(settings$token, "secret")
  expect_equal(settings$port, 8080)
  expect_equal(settings$max_body_bytes, 104857600)
})

test_that("a missing token is refused unless anonymous callers are allowed", {
  expect_error(read_settings(list()), "INTERNAL_TOKEN is empty", class = "seedplumber_config_error")
  expect_error(read_settings(list(INTERNAL_TOKEN = " \n")), class = "seedplumber_config_error")
  expect_equal(read_settings(list(ALLOW_ANONYMOUS = "true"))$token, "")
})

test_that("values out of range are refused by name", {
  cases <- list(
    c("PORT", "65536"), c("PORT", "x"), c("WORKERS", "0"), c("QUEUE_LENGTH", "1.5"), c("LOG_FORMAT", "xml")
  )
  for (case in cases) {
    env <- stats::setNames(list("t", case[2]), c("INTERNAL_TOKEN", case[1]))
    expect_error(read_settings(env), paste(case[1], "must be"), class = "seedplumber_config_error")
  }
})

test_that("the token is compared whole", {
  matches <- token_check("secret")
  expect_true(matches("Bearer secret"))
  expect_true(matches("bearer  secret "))
  for (header in list(NULL, "", "secret", "Basic secret", "Bearer", "Bearer secre", "Bearer secrets")) {
    expect_false(matches(header))
  }
})
