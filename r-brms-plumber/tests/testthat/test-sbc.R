# A short calibration; the suite of 500 fits is in tests/models/test_uniform_ranks.py.
test_that("ranks of the truth are uniform for every parameter and for P in 50 fits", {
  found <- sbc(50, marginal_model, seed = 31)
  for (name in c(growth_parameters, "P")) {
    counts <- table(cut(found[[name]], seq(0, 200, 40), right = FALSE))
    # seven tests: 0.001 keeps chance alarms below one in a hundred seeds
    expect_gt(suppressWarnings(stats::chisq.test(counts)$p.value), 0.001)
  }
  expect_equal(sum(found$divergent > 0), 0)
  # the gate's thresholds: of the fits of docs/models/validation.md 1.2 % miss the first, none the second
  expect_gte(mean(found$max_rhat <= 1.01), 0.98)
  expect_gte(mean(found$min_ess >= 400), 0.98)
})
