"""IRT: published fits, an independent implementation, and one result whichever way the model is called."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import LTM, LTM_GRADIENT, as_responses, is_the_published_lsat6, lsat6_matrix
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm
from seed_analytics.settings import IrtSettings
from support import ADDED, SHARED, close
from threadpoolctl import threadpool_limits

SERVICE = "r-irt-plumber"
CALIBRATE, SCORE = "/irt/calibrate", "/irt/score"
Floats = NDArray[np.float64]


def simulate(n_users: int, n_items: int, n_each: int, seed: int, mean: float = 0.0, sd: float = 1.0) -> Floats:
    return simulate_known(n_users, n_items, n_each, seed, mean, sd)[0]


def simulate_known(
    n_users: int, n_items: int, n_each: int, seed: int, mean: float = 0.0, sd: float = 1.0, *, sd_log_a: float = 0.3
) -> tuple[Floats, Floats, Floats, Floats]:
    """Answers, and the a, b and theta that they come from."""
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.normal(0, sd_log_a, n_items)), rng.normal(0, 1, n_items)
    theta = rng.normal(mean, sd, (n_users, 1))
    answers = (rng.random((n_users, n_items)) < expit(a * (theta - b))).astype(float)
    for row in answers:
        row[rng.permutation(n_items)[n_each:]] = np.nan
    return answers, a, b, theta[:, 0]


@dataclass
class DirectFit:
    """The marginal likelihood of the 2PL maximised as it stands, without EM, on another quadrature."""

    a: Floats
    b: Floats
    se_a: Floats
    se_b: Floats
    theta: Floats
    log_likelihood: float


def marginal(answers: Floats, nodes: Floats, weights: Floats) -> tuple[Callable[..., Floats], Callable[..., Any]]:
    """Log-likelihood of slopes and intercepts x jointly with each node (users x nodes); and -log L with its gradient."""
    right, wrong = np.nan_to_num(answers), np.nan_to_num(1 - answers)
    n_items = answers.shape[1]

    def joint(x: Floats) -> Floats:
        logit = np.outer(x[:n_items], nodes) + x[n_items:, None]
        return right @ log_expit(logit) + wrong @ log_expit(-logit) + np.log(weights)

    def loss(x: Floats) -> tuple[float, Floats]:
        logits = np.outer(x[:n_items], nodes) + x[n_items:, None]
        log_joint = joint(x)
        log_marginal = logsumexp(log_joint, axis=1)
        posterior = np.exp(log_joint - log_marginal[:, None])
        residual = right.T @ posterior - (right + wrong).T @ posterior * expit(logits)
        return -log_marginal.sum(), -np.concatenate([residual @ nodes, residual.sum(axis=1)])

    return joint, loss


@threadpool_limits.wrap(limits=1)  # small matrices: threads only wait for each other
def fit_directly(answers: Floats, nodes: Floats, weights: Floats, prior_sd: float | None = None) -> DirectFit:
    """Maximise by BFGS; standard errors from differences of the gradient; ``weights`` hold the normal density.

    With ``prior_sd`` the logarithm of each slope has a normal prior around 0.
    """
    right, wrong = np.nan_to_num(answers), np.nan_to_num(1 - answers)
    n_items = answers.shape[1]
    joint, of_data = marginal(answers, nodes, weights)

    def loss(x: Floats) -> tuple[float, Floats]:
        value, gradient = of_data(x)
        if prior_sd is None:
            return value, gradient
        scaled = np.log(x[:n_items]) / prior_sd
        by_slope = np.concatenate([scaled / (prior_sd * x[:n_items]), np.zeros(n_items)])
        return value + np.square(scaled).sum() / 2, gradient + by_slope

    start = np.concatenate([np.ones(n_items), np.log(right.sum(0) / wrong.sum(0))])
    bounds = [(None if prior_sd is None else 1e-3, None)] * n_items + [(None, None)] * n_items
    options = {"maxiter": 500, "ftol": 1e-13}
    x = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    step = 1e-4 * np.eye(len(x))
    hessian = np.array([(loss(x + e)[1] - loss(x - e)[1]) / 2e-4 for e in step])
    # Newton's last steps: a quasi-Newton method ends where the likelihood is flat.
    for _ in range(3):
        x = x - np.linalg.solve(hessian, loss(x)[1])
    covariance = np.linalg.inv((hessian + hessian.T) / 2)
    a, d = x[:n_items], x[n_items:]
    i = np.arange(n_items)
    v_a, v_d, v_ad = covariance[i, i], covariance[n_items + i, n_items + i], covariance[i, n_items + i]
    log_joint = joint(x)
    posterior = np.exp(log_joint - logsumexp(log_joint, axis=1)[:, None])
    b = -d / a
    return DirectFit(
        a, b, np.sqrt(v_a), np.sqrt(b**2 * v_a + 2 * b * v_ad + v_d) / a, posterior @ nodes, -of_data(x)[0]
    )


def gauss_hermite(n: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / math.sqrt(2 * math.pi)


def gauss_legendre(n: int, limit: float) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    nodes = limit * nodes
    return nodes, limit * weights * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)


def agree(fit: dict[str, Any], direct: DirectFit, parameter: float, standard_error: float) -> None:
    """Within ``parameter`` standard errors, and within a share ``standard_error`` of them."""
    items = {name: np.array(column) for name, column in fit["items"].items() if name in ("a", "b", "se_a", "se_b")}
    assert fit["log_likelihood"] == pytest.approx(direct.log_likelihood, abs=1e-3)
    for name in ("a", "b"):
        error, ours, theirs = items[f"se_{name}"], items[name], getattr(direct, name)
        np.testing.assert_array_less(np.abs(ours - theirs) / error, parameter, err_msg=name)
        np.testing.assert_allclose(error, getattr(direct, f"se_{name}"), rtol=standard_error, err_msg=f"se_{name}")
    np.testing.assert_allclose(fit["abilities"]["theta"], direct.theta, atol=1e-3)


@pytest.fixture(scope="module")
def calibrate(models: Callable[[str], Any]) -> Callable[..., dict[str, Any]]:
    """Calibrate in this process: ``calibrate(answers, model="1PL")``."""

    def call(answers: Floats, **settings: Any) -> dict[str, Any]:
        fit: dict[str, Any] = models(SERVICE).fit(CALIBRATE, {"responses": as_responses(answers), **settings})
        return fit

    return call


def test_lsat6_2pl_is_the_published_fit(calibrate: Callable[..., dict[str, Any]]) -> None:
    is_the_published_lsat6(calibrate(lsat6_matrix()))


def test_lsat6_b_of_the_fifth_item_is_that_of_the_direct_maximum(calibrate: Callable[..., dict[str, Any]]) -> None:
    answers = lsat6_matrix()
    for nodes in (gauss_hermite(21), gauss_hermite(61), gauss_legendre(101, 6)):
        direct = fit_directly(answers, *nodes)
        assert calibrate(answers)["items"]["b"][4] == pytest.approx(direct.b[4], abs=1e-3)
        assert abs(direct.b[4] - LTM["b"][4]) > 2e-3


def test_lsat6_has_its_maximum_at_the_estimates_and_not_at_the_published_point(
    calibrate: Callable[..., dict[str, Any]],
) -> None:
    _, loss = marginal(lsat6_matrix(), *gauss_hermite(21))  # as ltm integrates

    def at(items: dict[str, Any]) -> tuple[float, float]:
        a, b = np.array(items["a"]), np.array(items["b"])
        value, gradient = loss(np.concatenate([a, -a * b]))
        return -value, float(np.abs(gradient).max())

    ours, gradient = at(calibrate(lsat6_matrix())["items"])
    published, published_gradient = at(LTM)
    assert gradient < 1e-3
    assert published_gradient == pytest.approx(LTM_GRADIENT, abs=2e-3)
    assert ours > published


def test_lsat6_1pl_is_the_published_fit(calibrate: Callable[..., dict[str, Any]]) -> None:
    # R packages ltm, rasch(LSAT), and mirt: log-likelihood -2466.938, AIC 4945.875, BIC 4975.322 by both.
    fit = calibrate(lsat6_matrix(), model="1PL")
    assert fit["items"]["a"] == pytest.approx([0.7551] * 5, abs=1e-3)
    assert fit["items"]["b"] == pytest.approx([-3.6153, -1.3224, -0.3176, -1.7301, -2.7802], abs=1e-3)
    assert fit["items"]["se_b"] == pytest.approx([0.3266, 0.1422, 0.0977, 0.1691, 0.2510], abs=1e-3)
    assert (fit["log_likelihood"], fit["aic"], fit["bic"]) == pytest.approx((-2466.938, 4945.875, 4975.322), abs=1e-3)


def prior_of(sd: float | None) -> dict[str, Any]:
    return {} if sd is None else {"prior_a": {"meanlog": 0, "sdlog": sd}}


@pytest.mark.parametrize("prior_sd", [None, 0.5, 0.2])
def test_lsat6_is_the_direct_maximum(calibrate: Callable[..., dict[str, Any]], prior_sd: float | None) -> None:
    answers = lsat6_matrix()
    direct = fit_directly(answers, *gauss_hermite(61), prior_sd)
    agree(calibrate(answers, tolerance=1e-8, **prior_of(prior_sd)), direct, 1e-3, 1e-3)


@pytest.mark.parametrize("prior_sd", [None, 0.5, 0.2])
def test_sparse_answers_are_the_direct_maximum(
    calibrate: Callable[..., dict[str, Any]], prior_sd: float | None
) -> None:
    answers = simulate(600, 30, 12, seed=2)
    direct = fit_directly(answers, *gauss_legendre(101, 6), prior_sd)
    agree(calibrate(answers, tolerance=1e-8, **prior_of(prior_sd)), direct, 1e-3, 1e-3)


def test_memphis_first_attempts_are_the_direct_maximum(models: Callable[[str], Any]) -> None:
    path = SHARED / "data" / "irt" / "memphis5513_statcloze.parquet"
    if not path.exists():
        pytest.skip(f"the Memphis data (DataShop 5513) are not at {path}")
    answers, users, items = memphis_first_attempts(path)
    rows, columns = np.nonzero(~np.isnan(answers))
    responses = {
        "user_id": [users[row] for row in rows],
        "item_id": [items[column] for column in columns],
        "correct": [int(value) for value in answers[rows, columns]],
    }
    # Two conditions of a randomised experiment, each with 72 items of its own: refused unless said to be equally able.
    status, reply = models(SERVICE).answer(CALIBRATE, {"responses": responses})
    assert (status, "2 groups that no learner connects" in reply["detail"]) == (422, True)
    fit = models(SERVICE).fit(CALIBRATE, {"responses": responses, "equal_groups": True, "tolerance": 1e-7})
    assert fit["converged"]
    assert (fit["n_users"], fit["components"]) == (478, 2)
    kept = answers[:, [items.index(item) for item in fit["items"]["item_id"]]]
    agree(fit, fit_directly(kept, *gauss_legendre(101, 6)), 5e-3, 2e-3)


DEFAULT_PRIOR: float = IrtSettings.model_fields["mirt_prior_a_sdlog"].default
Errors = dict[str, tuple[Floats, Floats]]


@pytest.fixture(scope="module")
def sparse(calibrate: Callable[..., dict[str, Any]]) -> Callable[[float], Errors]:
    """Errors and standard errors of a, b, theta by the sd of log a: 16 times 50 items of about 80 answers, with the
    stage's default prior.
    """

    @cache
    def of(sd_log_a: float) -> Errors:
        found: dict[str, list[Floats]] = {"a": [], "b": [], "theta": []}
        for seed in range(16):
            answers, *truth, theta = simulate_known(400, 50, 10, seed=200 + seed, sd_log_a=sd_log_a)
            fit = calibrate(answers, **prior_of(DEFAULT_PRIOR))
            assert fit["items"]["item_id"] == [f"i{item:03d}" for item in range(50)]
            for name, true in zip("ab", truth, strict=True):
                found[name].append(np.array([np.subtract(fit["items"][name], true), fit["items"][f"se_{name}"]]))
            learners = fit["abilities"]
            assert learners["user_id"] == sorted(learners["user_id"])
            assert len(learners["user_id"]) == len(theta)
            found["theta"].append(np.array([np.subtract(learners["theta"], theta), learners["se"]]))
        return {name: tuple(np.concatenate(tables, axis=1)) for name, tables in found.items()}  # type: ignore[misc]

    return of


@pytest.mark.parametrize(
    ("name", "bias", "root_mean_square"),
    [("a", (-0.03, 0.07), 0.36), ("b", (-0.05, 0.05), 0.42)],
)
def test_errors_of_items_with_80_answers_and_the_default_prior(
    sparse: Callable[[float], Errors], name: str, bias: tuple[float, float], root_mean_square: float
) -> None:
    error, _ = sparse(0.3)[name]
    assert bias[0] < error.mean() < bias[1]
    assert np.sqrt(np.mean(error**2)) < root_mean_square


# Where items differ less than the prior says, intervals of a are wider than they need be.
@pytest.mark.parametrize("sd_log_a", [0.3, DEFAULT_PRIOR])
@pytest.mark.parametrize("name", ["a", "b", "theta"])
def test_coverage_with_80_answers_an_item_and_the_default_prior(
    sparse: Callable[[float], Errors], name: str, sd_log_a: float
) -> None:
    error, se = sparse(sd_log_a)[name]
    most = 0.985 if name == "a" and sd_log_a < DEFAULT_PRIOR else 0.97
    assert 0.93 < (np.abs(error) < norm.ppf(0.975) * se).mean() < most


def test_an_item_needs_its_least_number_of_answers(calibrate: Callable[..., dict[str, Any]]) -> None:
    least = IrtSettings.model_fields["mirt_min_answers"].default
    answers = simulate(100, 8, 8, seed=7)
    answers[least:, 0] = np.nan
    assert "i000" in calibrate(answers, model="1PL")["items"]["item_id"]
    answers[least - 1, 0] = np.nan
    excluded = calibrate(answers, model="1PL")["excluded"]
    assert excluded["item_id"] == ["i000"]
    assert f"fewer than the {least}" in excluded["reason"][0]


def memphis_first_attempts(path: Any) -> tuple[Floats, list[str], list[str]]:
    """Answers (users x items, NaN where none) with sorted ids; of several attempts at an item the first counts."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["user_id", "item_id", "correct", "timestamp_utc"]).sort_by("timestamp_utc")
    columns = table.to_pydict()
    users, items = sorted(set(columns["user_id"])), sorted(set(columns["item_id"]))
    row, column = ({name: at for at, name in enumerate(names)} for names in (users, items))
    answers = np.full((len(users), len(items)), np.nan)
    for user, item, correct in zip(columns["user_id"], columns["item_id"], columns["correct"], strict=True):
        at = row[user], column[item]
        if correct is not None and np.isnan(answers[at]):
            answers[at] = correct
    return answers, users, items


@pytest.mark.parametrize(
    "settings",
    [{}, {"model": "1PL"}, {"linking": "fixed"}, {"linking": "mean-sigma"}, {"prior_a": {"meanlog": 0, "sdlog": 0.5}}],
    ids=["2PL", "1PL", "fixed", "mean-sigma", "prior"],
)
def test_http_and_function_give_the_same_calibration(
    models: Callable[[str], Any], http: Callable[..., Any], settings: dict[str, Any]
) -> None:
    answers = simulate(300, 15, 10, seed=3)
    answers[:, 3] = 1 - answers[:, 3]  # keyed wrong: without a prior left out, with one said
    body = {"responses": as_responses(answers), **settings}
    if "linking" in settings:
        body["anchors"] = {"item_id": ["i001", "i004", "i008"], "a": [1.1, 0.9, 1.3], "b": [-0.5, 0.25, 1.0]}
    reply = http(SERVICE, CALIBRATE, body)
    assert reply.status_code == 200
    over_http = reply.json()
    direct = models(SERVICE).fit(CALIBRATE, body)
    for name in ADDED:
        over_http.pop(name)
    assert bool(over_http["warnings"]) == ("prior_a" in settings)
    close(over_http, direct)


def test_http_and_function_give_the_same_scores(models: Callable[[str], Any], http: Callable[..., Any]) -> None:
    body = {
        "items": {"item_id": ["i001", "i004", "i008"], "a": [1.1, 0.9, 1.3], "b": [-0.5, 0.25, 1.0]},
        "responses": as_responses(simulate(40, 10, 6, seed=4)),
    }
    over_http, direct = http(SERVICE, SCORE, body).json(), models(SERVICE).fit(SCORE, body)
    close(over_http["abilities"], direct["abilities"])
    assert over_http["warnings"] == direct["warnings"]
    assert "7 items without parameters" in over_http["warnings"][0]


def test_the_same_request_gives_the_same_bytes(http: Callable[..., Any]) -> None:
    body = {"responses": as_responses(simulate(200, 10, 8, seed=5))}
    replies = [http(SERVICE, CALIBRATE, body).json() for _ in range(2)]
    for reply in replies:
        reply.pop("elapsed_secs")
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    ("change", "problem", "words"),
    [
        (lambda r: {k: v + v[:1] for k, v in r.items()}, "invalid", "one answer of a user to an item"),
        (lambda r: r | {"correct": [2, *r["correct"][1:]]}, "invalid", "declared"),
        (lambda r: r | {"correct": r["correct"][1:]}, "invalid", "declared"),
        (lambda r: r | {"correct": [None] * len(r["correct"])}, "unfittable", "no scored answer"),
        (lambda r: r | {"correct": [1] * len(r["correct"])}, "unfittable", "all answers are right"),
        (lambda r: {k: v[:20] for k, v in r.items()}, "unfittable", "fewer than the 30"),
        (lambda r: {k: [] for k in r}, "invalid", "declared"),
    ],
    ids=["repeated", "not 0 or 1", "ragged", "unscored", "all right", "few", "empty"],
)
def test_answers_that_cannot_be_fitted_are_refused_in_words(
    http: Callable[..., Any], change: Callable[..., Any], problem: str, words: str
) -> None:
    reply = http(SERVICE, CALIBRATE, {"responses": change(as_responses(simulate(60, 8, 6, seed=6)))})
    assert reply.status_code == 422
    assert reply.json()["type"] == f"urn:seed-analytics:problem:{problem}"
    assert words in reply.json()["detail"]


@given(
    answers=st.lists(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=5, max_size=5), min_size=1, max_size=25),
    model=st.sampled_from(["1PL", "2PL"]),
    prior=st.booleans(),
    anchored=st.sampled_from([None, "fixed", "mean-sigma"]),
)
@example(answers=[[0.0] * 5, [0.0] * 5, [0.0, 0.0, 1.0, 1.0, 1.0]], model="1PL", prior=False, anchored=None)
@budget(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answers_are_fitted_or_refused(
    models: Callable[[str], Any], answers: list[list[float]], model: str, prior: bool, anchored: str | None
) -> None:
    matrix = np.array(answers)
    if np.isnan(matrix).all():
        return
    body: dict[str, Any] = {"responses": as_responses(matrix), "model": model, "min_answers": 2, "max_iterations": 40}
    if prior:
        body["prior_a"] = {"meanlog": 0, "sdlog": 0.5}
    if anchored:
        body |= {"linking": anchored, "anchors": {"item_id": ["i000", "i003"], "a": [1.0, 1.5], "b": [0.0, 1.0]}}
    status, reply = models(SERVICE).answer(CALIBRATE, body)
    assert status in (200, 422), reply
    if status == 200:
        assert all(a > 0 and math.isfinite(b) for a, b in zip(reply["items"]["a"], reply["items"]["b"], strict=True))
        assert all(math.isfinite(t) and se > 0 for t, se in zip(*list(reply["abilities"].values())[1:3], strict=True))
        assert reply["log_likelihood"] < 0
    else:
        assert reply["detail"]
