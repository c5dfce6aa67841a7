# Item response theory: difficulty and discrimination of items, abilities of learners. The models are in R/,
# their account in docs/models/irt.md. Abilities and difficulties are on one logit scale; its unit is the
# population's sd unless anchors say otherwise.

responses <- columns(user_id = string(), item_id = string(), correct = nullable(choice(0, 1)), .min_rows = 1)
abilities <- columns(
  user_id = string(), theta = number(), se = number(min = 0), n_responses = integer(min = 0)
)

service(
  name = "r-irt-plumber",
  version = "0.1.0",
  packages = "Matrix",
  warm = "warm_irt",
  heap_cells = "2M", # Matrix: .9 s to load, with this .6
  routes = list(
    fit_route(
      "/irt/calibrate", "calibrate_irt",
      summary = "Calibrate items by marginal maximum likelihood and estimate abilities",
      request = record(
        responses = responses,
        model = optional(choice("1PL", "2PL"), "2PL"),
        min_answers = optional(integer(min = 2), 30L),
        anchors = optional(columns(item_id = string(), a = number(above = 0), b = number())),
        linking = optional(choice("fixed", "mean-sigma"), "mean-sigma"),
        equal_groups = optional(boolean(), FALSE),
        max_iterations = optional(integer(min = 1, max = 100000), 500L),
        tolerance = optional(number(above = 0, max = 0.1), 1e-5),
        # medians of a from .05 to 20; a spread below .01 would hold every a at the median
        prior_a = optional(record(meanlog = number(min = -3, max = 3), sdlog = number(min = 0.01, max = 10)))
      ),
      response = record(
        model = string(), converged = boolean(), determined = boolean(), n_iterations = integer(min = 1),
        log_likelihood = number(), aic = number(), bic = number(), n_parameters = integer(min = 1),
        n_users = integer(min = 1), n_items = integer(min = 1), n_responses = integer(min = 1),
        components = integer(min = 1),
        items = columns(
          item_id = string(), a = number(above = 0), b = number(), se_a = nullable(number(min = 0)),
          se_b = nullable(number(min = 0)), n_responses = integer(min = 1),
          p_correct = number(min = 0, max = 1),
          infit = number(min = 0), outfit = number(min = 0), status = choice("fitted", "anchor")
        ),
        excluded = columns(
          item_id = string(), n_responses = integer(min = 1), p_correct = number(min = 0, max = 1),
          reason = string()
        ),
        abilities = abilities,
        linking = nullable(record(
          method = choice("fixed", "mean-sigma"), n_anchors = integer(min = 2), slope = number(above = 0),
          intercept = number(), rmse = number(min = 0), drift = number(min = 0)
        )),
        population = record(mean = number(), sd = number(above = 0)),
        fit = record(
          reliability = nullable(number(min = 0, max = 1)), null_log_likelihood = number(),
          median_infit = number(min = 0), median_outfit = number(min = 0),
          n_pairs = integer(min = 0), mean_q3 = nullable(number(min = -1, max = 1)),
          n_dependent_pairs = integer(min = 0)
        ),
        dependent_pairs = columns(
          item_id_1 = string(), item_id_2 = string(), q3 = number(min = -1, max = 1),
          n_users = integer(min = 1)
        )
      )
    ),
    fit_route(
      "/irt/score", "score_irt",
      summary = "Estimate abilities, given calibrated items",
      request = record(
        items = columns(item_id = string(), a = number(above = 0), b = number(), .min_rows = 1),
        responses = responses,
        population = optional(record(mean = number(), sd = number(above = 0)), list(mean = 0, sd = 1))
      ),
      response = record(abilities = abilities)
    )
  )
)
