"""Survival: a published fit, an independent implementation, known hazards, and later weeks of real courses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from held_out import COURSES, OULAD, Predictions, predict
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import is_the_published_lung, lung
from seed_analytics.local import Postgres, RService
from seed_analytics.settings import SERVICES
from seed_analytics.stages import gates
from support import ADDED, close, copy_of, run_with

SERVICE, FIT = "r-forecast-plumber", "/survival/fit"
Floats = NDArray[np.float64]
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(models: Callable[[str], Any]) -> Ask:
    """Fit in this process, and require an answer."""

    def call(body: dict[str, Any]) -> dict[str, Any]:
        status, reply = models(SERVICE).answer(FIT, body)
        assert status == 200, reply
        return dict(reply)

    return call


# ---- Published


@pytest.fixture(scope="module", name="lung")
def _lung() -> dict[str, Any]:
    return lung()


def test_lung_is_the_published_fit(ask: Ask, lung: dict[str, Any]) -> None:
    is_the_published_lung(ask(lung))


# ---- One result whichever way the model is called


def test_http_and_function_give_the_same_fit_of_lung(
    models: Callable[[str], Any], http: Callable[..., Any], lung: dict[str, Any]
) -> None:
    same_over_http(models, http, lung)


@pytest.mark.parametrize("n_users", [80, 15])
def test_http_and_function_give_the_same_fit_of_visits(
    models: Callable[[str], Any], http: Callable[..., Any], n_users: int
) -> None:
    said = same_over_http(models, http, body_of(simulate(n_users, seed=1)) | {"score": someone()})
    assert any("Only 15 users" in warning for warning in said) == (n_users == 15)


def same_over_http(models: Callable[[str], Any], http: Callable[..., Any], body: dict[str, Any]) -> list[str]:
    """Compare a reply with what the function returns; return its warnings."""
    reply = http(SERVICE, FIT, body)
    assert reply.status_code == 200
    over_http = reply.json()
    direct = models(SERVICE).fit(FIT, body)
    for name in ADDED:
        over_http.pop(name)
    close(columns(direct), columns(over_http))
    return list(over_http["warnings"])


def columns(reply: dict[str, Any]) -> dict[str, Any]:
    """Spread the tables of a reply, whose one-row columns rpy2 gives as they are."""
    return {name: value for name, value in reply.items() if value is not None}


# ---- Simulated visits

EFFECTS = {"x": 0.5, "z": -0.8}
HAZARD = 0.12  # a day
DAYS = 150


def simulate(
    n_users: int, seed: int, effects: dict[str, float] = EFFECTS, frailty: float = 0.0
) -> dict[str, list[Any]]:
    """Days between visits are geometric with hazard HAZARD exp(effects), drawn anew at each visit; x is normal, z 0/1."""
    rng = np.random.default_rng(seed)
    visits: dict[str, list[Any]] = {name: [] for name in ("user_id", "day", "gap_days", "event", "x", "z")}
    for user in range(n_users):
        day, own = int(rng.integers(20)), frailty * rng.normal()
        while day < DAYS:
            x, z = float(rng.normal()), float(rng.integers(2))
            hazard = HAZARD * np.exp(effects["x"] * x + effects["z"] * z + own)
            gap = int(rng.geometric(-np.expm1(-hazard)))
            row = (f"u{user:04d}", day, float(min(gap, DAYS - day)), gap <= DAYS - day, x, z)
            for name, value in zip(visits, row, strict=True):
                visits[name].append(value)
            day += gap
    return visits


def body_of(visits: dict[str, list[Any]], **settings: Any) -> dict[str, Any]:
    return {"visits": visits, "covariates": ["x", "z"], "as_of_day": DAYS, "threshold_days": 14} | settings


def someone(away: float = 3.0, x: float = 0.5, z: float = 1.0) -> dict[str, list[Any]]:
    return {"user_id": ["one"], "days_away": [away], "x": [x], "z": [z]}


class Cox:
    """Cox regression with Efron's ties, written from its formulas, one tied death after the other.

    Therneau & Grambsch, Modeling Survival Data (2000), sections 3.3 (ties) and 8.2.2 (robust variance); Lin & Wei (1989).
    """

    def __init__(self, visits: dict[str, list[Any]], names: tuple[str, ...] = ("x", "z")) -> None:
        self.x = np.column_stack([visits[name] for name in names])
        self.time, self.event = np.array(visits["gap_days"]), np.array(visits["event"])
        self.beta = np.zeros(len(names))
        for _ in range(25):
            score, information, _ = self._derivatives()
            self.beta = self.beta + np.linalg.solve(information, score)
        _, information, residuals = self._derivatives()
        inverse = np.linalg.inv(information)
        users = np.array(visits["user_id"])
        summed = np.array([residuals[users == user].sum(axis=0) for user in np.unique(users)]) @ inverse
        self.se, self.robust_se = np.sqrt(np.diag(inverse)), np.sqrt(np.diag(summed.T @ summed))

    def _derivatives(self) -> tuple[Floats, Floats, Floats]:
        """Score, information, and each row's score residual."""
        risk = np.exp(self.x @ self.beta)
        size = self.x.shape[1]
        score, information, residuals = np.zeros(size), np.zeros((size, size)), np.zeros_like(self.x)
        self.steps: list[tuple[float, float]] = []
        for time in np.unique(self.time[self.event]):
            dying = self.event & (self.time == time)
            deaths = dying.sum()
            for gone in np.arange(deaths) / deaths:
                weight = np.where(self.time >= time, risk, 0) * np.where(dying, 1 - gone, 1)
                total = weight.sum()
                mean = weight @ self.x / total
                centred = self.x - mean
                score += (self.x[dying] - mean).sum(axis=0) / deaths
                information += centred.T @ (centred * weight[:, None]) / total
                residuals[dying] += (self.x[dying] - mean) / deaths
                residuals -= centred * (weight / total)[:, None]
                self.steps.append((float(time), float(1 / total)))
        return score, information, residuals

    def survival(self, away: float, x: Floats, threshold: float = 14) -> float:
        """Probability to be back before `threshold`, given `away` days without a visit."""
        hazard = sum(step for time, step in self.steps if away < time <= threshold)
        return float(-np.expm1(-hazard * np.exp(x @ self.beta)))


@pytest.fixture(scope="module")
def small() -> dict[str, list[Any]]:
    """Visits of 40 users of whom some come back sooner, whatever the covariates: rows of a user are alike."""
    return simulate(40, seed=3, frailty=0.7)


def test_tied_visits_are_fitted_as_by_the_formulas(ask: Ask, small: dict[str, list[Any]]) -> None:
    fit, peer = ask(body_of(small, score=someone())), Cox(small)
    assert len(set(small["gap_days"])) < len(small["gap_days"]) / 5, "the visits were to tie"
    assert fit["coefficients"]["estimate"] == pytest.approx(peer.beta, abs=1e-8)
    assert fit["coefficients"]["se"] == pytest.approx(peer.se, rel=1e-7)
    assert fit["scores"]["survival"][0] == pytest.approx(peer.survival(3, np.array([0.5, 1.0])), rel=1e-7)


def test_robust_errors_are_as_by_the_formulas(ask: Ask, small: dict[str, list[Any]]) -> None:
    fit, peer = ask(body_of(small)), Cox(small)
    assert fit["coefficients"]["robust_se"] == pytest.approx(peer.robust_se, rel=1e-7)
    assert max(abs(peer.robust_se / peer.se - 1)) > 0.03, "the two errors were to differ"


def test_known_effects_are_recovered(ask: Ask) -> None:
    times = 150
    tables = [ask(body_of(simulate(60, seed=100 + i), holdout_days=0))["coefficients"] for i in range(times)]
    estimate, error = (np.array([table[name] for table in tables]) for name in ("estimate", "robust_se"))
    z = (estimate - np.array([EFFECTS["x"], EFFECTS["z"]])) / error
    # Chance passes each limit once in 400 times; a bias of .4 errors, or a coverage of .88, in 97 of 100.
    assert (np.abs(z.mean(axis=0)) < 3 / np.sqrt(times)).all(), "biased"
    covered = (np.abs(z) < 1.96).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / z.size), f"95 % intervals cover {covered:.1%}"


def test_survival_of_a_known_hazard_is_recovered(ask: Ask) -> None:
    visits = simulate(300, seed=7)
    for away in (0.0, 5.0, 13.0):
        hazard = HAZARD * np.exp(0.5 * EFFECTS["x"] + EFFECTS["z"])
        truth = -np.expm1(-hazard * (14 - away))
        found = ask(body_of(visits, score=someone(away), holdout_days=0))["scores"]["survival"][0]
        assert found == pytest.approx(truth, abs=0.03), away


def test_known_hazards_are_calibrated_on_later_weeks(ask: Ask) -> None:
    seen = ask(body_of(simulate(300, seed=8)))["holdout"]
    assert seen["brier"] < seen["brier_gap_only"] < seen["brier_base_rate"]
    assert 0.85 < seen["calibration_slope"] < 1.15


# ---- Metamorphosis


@pytest.fixture(scope="module")
def base(ask: Ask, small: dict[str, list[Any]]) -> dict[str, Any]:
    return ask(body_of(small, score=someone()))


def without(reply: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name not in (*ADDED, *names)}


def rows(visits: dict[str, list[Any]], keep: Any) -> dict[str, list[Any]]:
    return {name: [values[place] for place in keep] for name, values in visits.items()}


def test_shuffled_rows_give_the_same_fit(ask: Ask, small: dict[str, list[Any]], base: dict[str, Any]) -> None:
    order = np.random.default_rng(1).permutation(len(small["day"]))
    close(without(ask(body_of(rows(small, order), score=someone()))), without(base), 1e-9)


def test_renamed_users_give_the_same_fit(ask: Ask, small: dict[str, list[Any]], base: dict[str, Any]) -> None:
    renamed = small | {"user_id": [f"ü{crc32(user.encode()) % 997}-{user[::-1]}" for user in small["user_id"]]}
    close(without(ask(body_of(renamed, score=someone()))), without(base), 1e-9)


def test_dates_shifted_by_weeks_give_the_same_fit(ask: Ask, small: dict[str, list[Any]], base: dict[str, Any]) -> None:
    later = small | {"day": [day + 7 * 52 for day in small["day"]]}
    close(without(ask(body_of(later, score=someone(), as_of_day=DAYS + 7 * 52))), without(base), 1e-9)


def test_a_copy_of_every_user_keeps_the_estimates(ask: Ask, base: dict[str, Any], small: dict[str, list[Any]]) -> None:
    # Under Efron's ties a copy is not the same likelihood: each death has a twin that ties with it. So no time ties here.
    rng = np.random.default_rng(4)
    spread = small | {"gap_days": [gap - float(rng.random()) * 0.9 for gap in small["gap_days"]]}
    twins = {name: values + values for name, values in spread.items()}
    twins["user_id"] = spread["user_id"] + [f"{user}-twin" for user in spread["user_id"]]
    one, two = (ask(body_of(visits, score=someone())) for visits in (spread, twins))
    errors = np.array(one["coefficients"]["robust_se"])
    moved = np.abs(np.subtract(one["coefficients"]["estimate"], two["coefficients"]["estimate"]))
    assert max(moved / errors) < 0.05
    assert two["coefficients"]["robust_se"] == pytest.approx(errors / np.sqrt(2), rel=0.02)
    assert two["scores"]["survival"] == pytest.approx(one["scores"]["survival"], abs=2e-3)


def test_one_user_removed_barely_moves_the_rest(ask: Ask, base: dict[str, Any], small: dict[str, list[Any]]) -> None:
    rest = rows(small, [place for place, user in enumerate(small["user_id"]) if user != "u0007"])
    fit = ask(body_of(rest, score=someone()))
    moved = np.abs(np.subtract(fit["coefficients"]["estimate"], base["coefficients"]["estimate"]))
    assert 0 < max(moved / np.array(base["coefficients"]["robust_se"])) < 1
    assert fit["scores"]["survival"] == pytest.approx(base["scores"]["survival"], abs=0.03)


def test_another_unit_scales_the_coefficient_only(ask: Ask, base: dict[str, Any], small: dict[str, list[Any]]) -> None:
    for unit in (1000, 1 / 1000):
        scaled = ask(body_of(small | {"x": [unit * x for x in small["x"]]}, score=someone(x=0.5 * unit)))
        estimate = scaled["coefficients"]["estimate"][0]
        assert unit * estimate == pytest.approx(base["coefficients"]["estimate"][0], rel=1e-6)
        close(scaled["scores"], base["scores"], 1e-7)
        close(scaled["holdout"], base["holdout"], 1e-6)
        assert gates.survival(scaled) == gates.survival(base)


def test_hours_for_days_give_the_same_fit(ask: Ask, small: dict[str, list[Any]]) -> None:
    hours = small | {name: [24 * value for value in small[name]] for name in ("day", "gap_days")}
    scaled = body_of(hours, score=someone(away=3 * 24), as_of_day=24 * DAYS, threshold_days=24 * 14, holdout_days=0)
    one, other = ask(body_of(small, score=someone(), holdout_days=0)), ask(scaled)
    for part in ("coefficients", "concordance", "log_likelihood", "scores"):
        close(other[part], one[part], 1e-9)


# ---- Nothing from the future


def test_later_weeks_change_no_prediction_that_was_made_before_them(ask: Ask, small: dict[str, list[Any]]) -> None:
    """What the hold-out predicts at its first landmark rests on nothing that came after it: only outcomes may differ."""
    cutoff = DAYS - 28 - 14
    changed = {name: list(values) for name, values in small.items()}
    for place, (day, gap) in enumerate(zip(small["day"], small["gap_days"], strict=True)):
        if day > cutoff:
            changed["x"][place], changed["z"][place] = 9.0, 1.0 - small["z"][place]
        elif day + gap > cutoff and not (small["event"][place] and gap <= 14):
            changed["event"][place] = False  # who came back late enough not to count never came back
    # The only landmark is the cutoff, so that every prediction is one that the future could not know.
    settings = {"holdout_days": 0}
    before, after = (
        ask(body_of(visits, as_of_day=as_of, **settings))["holdout"]
        for visits, as_of in ((until(small, cutoff + 14), cutoff + 14), (until(changed, cutoff + 14), cutoff + 14))
    )
    assert before["n"] > 10
    close(after, before, 1e-12)


def until(visits: dict[str, list[Any]], as_of: int) -> dict[str, list[Any]]:
    """The visits as they were known at `as_of`: later ones unseen, their gaps censored there."""
    kept = rows(visits, [place for place, day in enumerate(visits["day"]) if day < as_of])
    ends = np.add(kept["day"], kept["gap_days"])
    kept["event"] = [bool(event and end <= as_of) for event, end in zip(kept["event"], ends, strict=True)]
    kept["gap_days"] = [float(min(end, as_of) - day) for end, day in zip(ends, kept["day"], strict=True)]
    return kept


# ---- Refused or flagged


def changed(name: str) -> tuple[dict[str, Any], str]:
    visits = simulate(30, seed=9)
    if name == "no events":
        return body_of(visits | {"event": [False] * len(visits["event"])}), "no events"
    if name == "one user":
        return body_of(visits | {"user_id": ["one"] * len(visits["event"])}), "one user"
    return body_of(visits | {"gap_days": [gap + 1000 for gap in visits["gap_days"]]}), "as_of_day"


@pytest.mark.parametrize("name", ["no events", "one user", "after as_of_day"])
def test_visits_that_cannot_be_fitted_are_refused_in_words(http: Callable[..., Any], name: str) -> None:
    body, words = changed(name)
    reply = http(SERVICE, FIT, body)
    assert reply.status_code == 422
    assert words in reply.text


def test_separation_is_flagged_and_kept_out(ask: Ask) -> None:
    visits = simulate(60, seed=10)
    visits["x"] = [float(event) for event in visits["event"]]
    fit = ask(body_of(visits))
    assert fit["separated"] == ["x"]
    assert fit["hazard_ratios"]["hazard_ratio"][0] is None
    assert any("Separation: x" in warning for warning in fit["warnings"])
    verdict = gates.survival(fit)
    assert not verdict.accepted
    assert "x decides alone who comes back" in str(verdict)


def test_all_events_are_fitted_and_said(ask: Ask) -> None:
    visits = simulate(60, seed=11)
    everyone = rows(visits, [place for place, event in enumerate(visits["event"]) if event])
    fit = ask(body_of(everyone))
    assert fit["n"] == fit["n_events"]
    assert any("nothing is censored" in warning for warning in fit["warnings"])


def test_badly_broken_proportionality_is_flagged(ask: Ask) -> None:
    # z = 1 halves the hazard of the first four days and trebles it afterwards.
    rng = np.random.default_rng(12)
    visits = simulate(200, seed=12, effects={"x": 0.5, "z": 0.0})
    for place, z in enumerate(visits["z"]):
        early, late = (0.5, 3.0) if z else (1.0, 1.0)
        hazards = HAZARD * np.where(np.arange(60) < 4, early, late)
        gap = int(np.argmax(np.append(rng.random(60) < -np.expm1(-hazards), True))) + 1
        visits["gap_days"][place], visits["event"][place] = float(gap), gap <= 60
    fit = ask(body_of(visits, as_of_day=DAYS + 100))
    p = dict(zip(fit["ph_test"]["term"], fit["ph_test"]["p"], strict=True))
    assert p["z"] < gates.PH_REMARK_P < p["x"]
    verdict = gates.survival(fit)
    assert "Hazards are not proportional for z" in str(verdict)


def test_proportional_hazards_are_not_flagged(ask: Ask) -> None:
    assert min(ask(body_of(simulate(300, seed=13), holdout_days=0))["ph_test"]["p"]) > gates.PH_REMARK_P


VISIT = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 100),
    st.integers(1, 40),
    st.booleans(),
    st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(-1e6, 1e6)),
)


@given(visits=st.lists(VISIT, min_size=1, max_size=40), away=st.floats(0, 60))
@budget(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_visits_are_fitted_or_refused(
    models: Callable[[str], Any], visits: list[tuple[Any, ...]], away: float
) -> None:
    table = dict(zip(("user_id", "day", "gap_days", "event", "x"), map(list, zip(*visits, strict=True)), strict=True))
    body = {"visits": table, "covariates": ["x"], "as_of_day": 140}
    body["score"] = {"user_id": ["one"], "days_away": [away], "x": [1.0]}
    status, reply = models(SERVICE).answer(FIT, body)
    assert status in (200, 422), reply
    if status == 422:
        assert reply["detail"]
        return
    (survival,) = reply["scores"]["survival"]
    assert 0 <= survival <= 1
    assert survival == 0 or away < 14
    assert reply["concordance"] is None or 0 <= reply["concordance"] <= 1
    curve = reply["survival_curve"]["survival"]
    assert all(later <= earlier for earlier, later in pairwise(curve))


# ---- Later weeks of real courses


@pytest.fixture(scope="module")
def forecaster() -> Iterator[RService]:
    with RService(SERVICE) as service:
        yield service


@pytest.fixture(scope="module")
def later_weeks(postgres: Postgres, empty_template: str, forecaster: RService) -> Callable[[str], Predictions]:
    """What the stage published inside a course, and who then came back; each course once."""
    found: dict[str, Predictions] = {}
    run = partial(run_with, dict.fromkeys(SERVICES.values(), forecaster))

    def of(course: str) -> Predictions:
        if not OULAD.exists():
            pytest.skip(f"OULAD is not at {OULAD}")
        if course not in found:
            for database in copy_of(postgres, empty_template, f"survival_{course.lower().replace('-', '_')}"):
                found[course] = predict(database, run, course, COURSES[course])
        return found[course]

    return of


@pytest.mark.parametrize("course", COURSES)
def test_survival_beats_the_base_rate_on_later_weeks(later_weeks: Callable[[str], Predictions], course: str) -> None:
    seen = later_weeks(course)
    assert len(seen.rejected) <= len(seen.dates) / 4
    assert seen.brier(seen.survival) < 0.8 * seen.brier(float(seen.back.mean()))


@pytest.mark.parametrize("course", COURSES)
def test_survival_beats_the_gap_alone_on_later_weeks(later_weeks: Callable[[str], Predictions], course: str) -> None:
    seen = later_weeks(course)
    assert seen.brier(seen.survival) < seen.brier(seen.gap_only)
    assert seen.intervals()[0][0] > 0, "by no more than chance gives: 95 % interval over learners"


@pytest.mark.parametrize("course", COURSES)
def test_survival_is_calibrated_on_later_weeks(later_weeks: Callable[[str], Predictions], course: str) -> None:
    seen = later_weeks(course)
    assert 0.8 < seen.calibration()[1] < 1.2
    assert seen.survival.mean() == pytest.approx(seen.back.mean(), abs=0.05)
