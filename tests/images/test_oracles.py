"""The published fits once more, by the R and the packages that the images ship."""

from __future__ import annotations

from typing import Any

import pytest
from containers import Containers, serve
from oracles import (
    PEYTON_MANNING,
    as_responses,
    is_the_published_lsat6,
    is_the_published_lung,
    is_the_published_sleepstudy,
    lsat6_matrix,
    lung,
    peyton_manning,
    sleepstudy,
)
from support import ROOT


def answer(containers: Containers, name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = serve(containers, name).post(path, body)
    assert reply.status_code == 200, reply.text
    fit: dict[str, Any] = reply.json()
    assert fit["versions"]["R"] >= "4.5"  # not this machine's
    return fit


def test_lsat6_is_the_published_fit(containers: Containers) -> None:
    body = {"responses": as_responses(lsat6_matrix())}
    is_the_published_lsat6(answer(containers, "r-irt-plumber", "/irt/calibrate", body))


def test_lung_is_the_published_fit(containers: Containers) -> None:
    is_the_published_lung(answer(containers, "r-forecast-plumber", "/survival/fit", lung()))


def test_sleepstudy_is_the_published_fit(containers: Containers) -> None:
    is_the_published_sleepstudy(answer(containers, "r-brms-plumber", "/growth/fit", sleepstudy()))


FORECAST = """
models <- seedplumber::load_service("r-forecast-plumber")$models
history <- utils::read.csv("/tmp/views.csv")
model <- models$prophet_model(data.frame(ds = as.Date(history$day), y = log(history$views)), weekly = "auto")
cat("yhat", stats::predict(model, data.frame(ds = as.Date("2017-01-15") + 0:4))$yhat)
"""


def test_peyton_manning_is_forecast_as_published(containers: Containers) -> None:
    # Daily views are no series of weeks, so the model is called as the route calls it.
    script = f"cat > /tmp/views.csv <<'END'\n{peyton_manning(ROOT)}END\nPATH=$PATH:$PWD/r-plumber-common/libexec Rscript -e '{FORECAST}'"
    ended = containers.shell("r-forecast-plumber", script)
    assert ended.code == 0, ended.output
    found = [float(word) for word in ended.output.rsplit("yhat", 1)[1].split()]
    assert found == pytest.approx(PEYTON_MANNING, abs=0.02)
