"""Forecasts: Prophet as it is called directly, honest intervals and alarms, and what is no series refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache, partial
from typing import Any

import activity
import numpy as np
import pytest
from activity import body_of
from held_out import OULAD
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm
from seed_analytics.local import Postgres
from support import Database

SERVICE, FIT = "r-forecast-plumber", "/prophet/fit"
Floats = NDArray[np.float64]
Ask = Callable[..., dict[str, Any]]
MONDAY = date(2023, 1, 2)


@pytest.fixture(scope="module")
def ask(models: Callable[[str], Any]) -> Ask:
    """Forecast in this process, and require an answer."""

    def call(values: Any, **settings: Any) -> dict[str, Any]:
        status, reply = models(SERVICE).answer(FIT, body_of(values, **settings))
        assert status == 200, reply
        return dict(reply)

    return call


def line(n: int, seed: int, noise: float = 0.02, slope: float = 0.004) -> Floats:
    return 0.3 + slope * np.arange(n) + noise * np.random.default_rng(seed).normal(size=n)


def anomalies(fit: dict[str, Any]) -> list[int]:
    return [place for place, odd in enumerate(fit["history"]["anomaly"]) if odd]


# ---- Agreement


def bent_with_a_wild_week() -> Floats:
    values = line(30, seed=1)
    values[15:] += 0.02 * np.arange(15)
    values[8] = 5.0  # is left out, which is said
    return values


@pytest.mark.parametrize(
    ("engine", "values", "said"),
    [
        ("prophet", bent_with_a_wild_week(), "left out of the fit"),
        ("naive", line(8, seed=1), "Too few weeks"),
        ("constant", np.full(20, 0.5), "is constant"),
    ],
    ids=["prophet", "naive", "constant"],
)
def test_http_and_function_give_the_same_forecast(
    models: Callable[[str], Any], http: Callable[..., Any], engine: str, values: Floats, said: str
) -> None:
    body = body_of(values)
    over_http, direct = http(SERVICE, FIT, body).json(), models(SERVICE).fit(FIT, body)
    assert over_http["engine"] == direct["engine"] == engine
    for table in ("changepoints", "forecast", "history"):
        assert over_http[table].keys() == direct[table].keys()
        days = [(date.fromisoformat(week) - date(1970, 1, 1)).days for week in over_http[table]["week_start"]]
        assert len(days) > 0 or (table == "changepoints" and engine != "prophet"), table
        for name, column in (over_http[table] | {"week_start": days}).items():
            assert column == pytest.approx(direct[table][name], rel=1e-12, abs=1e-12), (table, name)
    assert over_http["metrics"] == {
        name: value if value is None else pytest.approx(value, rel=1e-12) for name, value in direct["metrics"].items()
    }
    assert over_http["warnings"] == direct["warnings"]
    assert any(said in warning for warning in over_http["warnings"])


def test_a_forecast_is_what_prophet_itself_forecasts(ask: Ask) -> None:
    """The same series through prophet::prophet(), called as its own documentation does."""
    import rpy2.robjects as ro

    values = line(60, seed=2)
    values[30:] += 0.02 * np.arange(30)  # bends
    fit = ask(values)
    assert fit["engine"] == "prophet"
    predict = ro.r(
        """function(y, first, bend) {
          history <- data.frame(ds = as.Date(first) + 7 * (seq_along(y) - 1), y = y)
          model <- prophet::prophet(
            history, changepoint.prior.scale = bend, weekly.seasonality = FALSE, daily.seasonality = FALSE,
            uncertainty.samples = 0
          )
          predict(model, prophet::make_future_dataframe(model, periods = 4, freq = 'week'))$yhat
        }"""
    )
    own = predict(ro.FloatVector(values), MONDAY.isoformat(), fit["metrics"]["changepoint_prior_scale"])
    assert fit["forecast"]["yhat"] == pytest.approx(list(own)[-4:], abs=1e-3)


# ---- Honest intervals


# With eight weeks the last value is forecast, so that a walk is what its interval is for. Through Prophet, which takes a
# second a series, coverage is held by test-prophet.R (its forecast) and tests/validate.py (all of it).
def test_the_interval_of_a_walk_covers_at_its_level(ask: Ask) -> None:
    level, n_series = 0.8, 200
    threshold = float(norm.ppf((1 + level) / 2))
    inside = np.zeros(4, dtype=int)
    for seed in range(n_series):
        values = np.cumsum(np.random.default_rng(1000 + seed).normal(size=12))
        ahead = ask(values[:8], anomaly_threshold=threshold)["forecast"]
        inside += (np.array(ahead["lower"]) <= values[8:]) & (values[8:] <= np.array(ahead["upper"]))
    low, high = binom.ppf([0.005, 0.995], n_series, level)  # 145 and 174: a coverage of 60 % is below with p > .99
    assert ((low <= inside) & (inside <= high)).all(), f"{inside} of {n_series}, by horizon"


# So many series that three times the rate would be above the limit with probability .9; by the judgement of a straight
# line the rate is held to a tenth in test-prophet.R.
@pytest.mark.parametrize(("n_weeks", "n_series"), [(8, 75), (104, 5)])
def test_false_alarms_are_at_most_at_the_stated_rate(ask: Ask, n_weeks: int, n_series: int) -> None:
    alarms = sum(len(anomalies(ask(line(n_weeks, seed=7000 * n_weeks + seed)))) for seed in range(n_series))
    stated = 2 * norm.sf(2.5)
    limit = binom.ppf(0.99, n_series * n_weeks, stated)
    assert binom.sf(limit, n_series * n_weeks, 3 * stated) > 0.9
    assert alarms <= limit, f"{alarms} in {n_series * n_weeks} weeks"


@pytest.mark.parametrize("n_weeks", [8, 12, 26, 104])
def test_a_planted_anomaly_is_found(ask: Ask, n_weeks: int) -> None:
    at = n_weeks // 2
    values = line(n_weeks, seed=n_weeks)
    values[at] += 0.4  # 20 sd of the noise
    found = ask(values)
    assert at in anomalies(found)
    assert found["history"]["score"][at] > 2.5


def test_an_anomaly_in_the_newest_week_is_found(ask: Ask) -> None:
    values = line(20, seed=4)
    values[-1] -= 0.2
    assert 19 in anomalies(ask(values))


def test_one_enormous_outlier_hides_nobody_and_bends_nothing(ask: Ask) -> None:
    values = line(30, seed=5)
    wild = values.copy()
    wild[10] = 1e6
    calm, seen = ask(values), ask(wild)
    assert 10 in anomalies(seen)
    assert seen["metrics"]["n_left_out"] == 1
    assert seen["forecast"]["yhat"] == pytest.approx(calm["forecast"]["yhat"], abs=0.02)
    assert any("left out of the fit" in warning for warning in seen["warnings"])


# ---- The simpler forecast where it is the better one


def test_a_random_walk_falls_back_and_says_so(ask: Ask) -> None:
    # This walk turns in its last weeks, so that a trend is three times as wrong about them (of ten walks, every other one is
    # drawn on as well by a trend); the errors that decide are in the reply.
    walk = np.cumsum(np.random.default_rng(0).normal(size=60))
    fit = ask(walk)
    assert fit["engine"] == "naive"
    assert fit["metrics"]["mae_naive"] <= fit["metrics"]["mae_prophet"]
    assert fit["forecast"]["yhat"] == pytest.approx([walk[-1]] * 4)
    assert any("no better than a naive forecast" in warning for warning in fit["warnings"])


def test_a_yearly_pattern_is_repeated(ask: Ask) -> None:
    year = np.random.default_rng(6).normal(size=52)
    values = np.tile(year, 3)[:130] + 0.01 * np.random.default_rng(7).normal(size=130)
    fit = ask(values)
    assert fit["engine"] in {"seasonal-naive", "prophet"}
    assert fit["forecast"]["yhat"] == pytest.approx(year[130 % 52 :][:4], abs=0.6)
    best = min(v for k, v in fit["metrics"].items() if k.startswith("mae_") and v is not None)
    chosen = "mae_prophet" if fit["engine"] == "prophet" else "mae_seasonal_naive"
    assert fit["metrics"][chosen] == best


@pytest.fixture(scope="module")
def learners_a_week(postgres: Postgres, empty_template: str) -> Callable[[str], Floats]:
    if not OULAD.exists():
        pytest.skip(f"OULAD is not at {OULAD}")
    return cache(partial(activity.weekly, postgres, empty_template))


@pytest.mark.parametrize("course", activity.COURSES)
def test_activity_is_forecast_better_than_seasonal_naive_or_by_the_simpler_one_which_is_said(
    learners_a_week: Callable[[str], Floats], ask: Ask, course: str
) -> None:
    """Rolling origins; what is forecast from each are four weeks that no choice of engine has seen.

    A course alone has no week a year before it: there the simple forecast repeats the last value.
    """
    seen = activity.roll(course, learners_a_week, ask)
    for fit in seen.fits:
        tried = {name: fit["metrics"][f"mae_{name.replace('-', '_')}"] for name in ("naive", "seasonal-naive")}
        assert (tried["seasonal-naive"] is not None) == (seen.lag is not None)
        best = min((name for name in tried if tried[name] is not None), key=tried.__getitem__)
        if fit["engine"] == "prophet":
            assert fit["metrics"]["mae_prophet"] < tried[best]
        else:
            assert fit["engine"] == best
            assert tried[best] <= fit["metrics"]["mae_prophet"]
            assert any("simpler one is used" in warning for warning in fit["warnings"])
    chosen, simple = seen.errors()
    assert len(chosen) >= 12
    assert chosen.mean() < simple.mean()


# ---- Edges


def test_gaps_are_bridged_and_not_judged(ask: Ask) -> None:
    values = line(26, seed=8)
    values[[5, 6, 17]] = np.nan
    fit = ask(values)
    assert fit["metrics"]["n_weeks"] == 23
    assert [fit["history"]["score"][place] for place in (5, 6, 17)] == [None] * 3
    assert not {5, 6, 17} & set(anomalies(fit))
    without = ", ".join(fit["history"]["week_start"][place] for place in (5, 6, 17))
    assert f"Without a value, and so not judged: {without}." in fit["warnings"]
    assert all(math.isfinite(value) for value in fit["history"]["expected"])


def test_a_constant_metric_is_forecast_as_constant(ask: Ask) -> None:
    fit = ask([0.5] * 20)
    assert fit["engine"] == "constant"
    assert fit["forecast"]["yhat"] == [0.5] * 4
    assert not anomalies(fit)
    assert any("is constant" in warning for warning in fit["warnings"])


def test_fewer_than_eight_weeks_are_refused(http: Callable[..., Any]) -> None:
    reply = http(SERVICE, FIT, body_of([0.1, 0.2, None, 0.3, 0.2, 0.1, 0.4, 0.2]))
    assert reply.status_code == 422
    assert reply.json()["type"] == "urn:seed-analytics:problem:unfittable"
    assert "7 weeks with a value; a forecast needs 8" in reply.json()["detail"]


def test_eight_weeks_are_enough(ask: Ask) -> None:
    assert ask(line(8, seed=9))["metrics"]["n_weeks"] == 8


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda w: [w[1], w[0], *w[2:]], "weeks.week_start[1]", "later than the week before"),
        (lambda w: [w[0], w[0], *w[2:]], "weeks.week_start[1]", "later than the week before"),
        (lambda w: [*w[:3], "2023-01-24", *w[4:]], "weeks.week_start[3]", "Monday"),
    ],
    ids=["out of order", "twice", "no Monday"],
)
def test_dates_that_are_no_weeks_are_refused_by_name(
    http: Callable[..., Any], change: Callable[..., Any], field: str, words: str
) -> None:
    body = body_of(line(12, seed=10))
    body["weeks"]["week_start"] = change(body["weeks"]["week_start"])
    reply = http(SERVICE, FIT, body)
    assert reply.status_code == 422
    assert field in reply.text
    assert words in reply.text


WEEK = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 1e-12, -1e50]), st.floats(-1e50, 1e50))


@given(values=st.lists(WEEK, min_size=6, max_size=14))
@budget(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_weeks_are_forecast_or_refused(models: Callable[[str], Any], values: list[float | None]) -> None:
    status, reply = models(SERVICE).answer(FIT, body_of([math.nan if value is None else value for value in values]))
    known = sum(value is not None for value in values)
    assert status == (200 if known >= 8 else 422), reply
    if status == 422:
        assert f"has {known} weeks with a value" in reply["detail"]
        return
    ahead, history = reply["forecast"], reply["history"]
    assert all(low <= at <= high for low, at, high in zip(ahead["lower"], ahead["yhat"], ahead["upper"], strict=True))
    assert [value is None for value in history["value"]] == [value is None for value in values]
    assert history["anomaly"] == [score is not None and abs(score) > 2.5 for score in history["score"]]


# ---- Metamorphosis


def test_dates_shifted_by_whole_weeks_give_the_same_forecast(ask: Ask) -> None:
    values = line(30, seed=11)
    here, later = ask(values), ask(values, first=MONDAY + timedelta(weeks=31))
    assert later["forecast"]["yhat"] == pytest.approx(here["forecast"]["yhat"], abs=1e-9)
    assert later["history"]["score"] == pytest.approx(here["history"]["score"], abs=1e-6)


def test_another_unit_scales_the_forecast_and_keeps_the_scores(ask: Ask) -> None:
    values = line(30, seed=12)
    here, thousands = ask(values), ask(1000 * values)
    assert np.array(thousands["forecast"]["yhat"]) / 1000 == pytest.approx(here["forecast"]["yhat"], abs=1e-4)
    assert thousands["history"]["score"] == pytest.approx(here["history"]["score"], abs=1e-2)


# ---- The stage


def test_the_unfinished_week_is_never_used(simulated: Database, run: Callable[..., int]) -> None:
    monday = simulated("SELECT date_trunc('week', now())::date::text")[0][0]
    published = []
    for value in (-0.9, 0.9):  # of the week that `as_of`, its Sunday, does not end
        simulated("UPDATE weekly_kpi SET kpis = kpis || %s WHERE week_start = %s", f'{{"I_t": {value}}}', monday)
        sunday = (date.fromisoformat(monday) + timedelta(days=6)).isoformat()
        assert run(simulated, "forecast-prophet", "--as-of", sunday) == 0
        published.append(
            simulated("SELECT forecast::text, history::text FROM prophet_fit_meta ORDER BY run_id DESC LIMIT 1")
        )
        assert monday not in simulated("SELECT history::text FROM prophet_fit_meta ORDER BY run_id DESC LIMIT 1")[0][0]
    assert simulated("SELECT count(*) FROM weekly_kpi WHERE week_start = %s", monday)[0][0] > 0
    assert published[0] == published[1]
