"""Fits of weekly values without a season: Prophet's Stan model as the service asks it, beside Prophet's functions."""

from __future__ import annotations

from collections.abc import Iterator

import rpy2.robjects as ro
from seed_analytics.local import checkout

from benchmarks._measure import Row, beside

WEEKS, FITS = 60, 10
R = f"""function(models) {{
  set.seed(1)
  dates <- as.Date("2023-01-02") + 7 * seq_len({WEEKS} + 4)
  values <- c(0.3 + 0.004 * seq_len({WEEKS}) + stats::rnorm({WEEKS}, 0, 0.02), rep(NA, 4))
  ahead <- {WEEKS} + 1:4
  list(
    ours = function() for (fit in seq_len({FITS})) models$prophet_expects(values, dates, ahead, 0.05),
    prophet = function() for (fit in seq_len({FITS})) {{
      stats::predict(models$prophet_model(data.frame(ds = dates, y = values)), data.frame(ds = dates[ahead]))
    }}
  )
}}"""


def rows() -> Iterator[Row]:
    service = ro.r("seedplumber::load_service")(str(checkout() / "r-forecast-plumber"))
    work = ro.r(R)(service.rx2("models"))
    yield beside(
        f"{FITS} fits of {WEEKS} weeks", work.rx2("ours"), "prophet() and predict()", work.rx2("prophet"), runs=5
    )
