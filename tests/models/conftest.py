"""The model functions of the R services, called in this process (rpy2) and over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres, RService
from seed_analytics.settings import MODEL_STAGES
from support import ROOT, Database, copy_of, run_with

COMMON = ROOT / "r-plumber-common"


class Models:
    """The model functions of one service in this process's R."""

    def __init__(self, folder: str) -> None:
        import rpy2.robjects as ro

        # By name and not by importr(), which would attach the package: its integer() would mask base's in the models.
        self._set_seed, self._read, self._answer, load = (
            ro.r(name)
            for name in ("set.seed", "seedplumber:::read_request", "seedplumber::answer", "seedplumber::load_service")
        )
        self._service = load(str(ROOT / folder))
        functions = self._service.rx2("models")
        self._functions = {
            route.rx2("path")[0]: (route.rx2("request"), functions[route.rx2("fun")[0]])
            for route in self._service.rx2("routes")
        }

    def fit(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Call the function of a route directly: records as dictionaries, columns as dictionaries of lists.

        Raises:
            rpy2.rinterface_lib.embedded.RRuntimeError: the function raised a condition.

        """
        spec, function = self._functions[path]
        request = self._read(spec, json.dumps(body))
        self._set_seed(request.rx2("seed")[0])
        reply: dict[str, Any] = _python(function(request))
        if "warnings" in reply:  # R has one type for a sentence and a list of one
            reply["warnings"] = list(np.atleast_1d(reply["warnings"] or []))
        return reply

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a request as a worker does, without HTTP: status and reply."""
        reply = self._answer(self._service, path, json.dumps(body))
        return int(reply.rx2("status")[0]), json.loads(reply.rx2("body")[0])


def _python(value: Any) -> Any:
    """R lists as dictionaries or lists, data frames as columns, vectors of length one bare, NA and NaN as None."""
    import rpy2.rinterface as ri
    import rpy2.robjects as ro

    if value is ri.NULL:
        return None
    if isinstance(value, ro.DataFrame):
        return {name: _column(column) for name, column in value.items()}
    if isinstance(value, ro.ListVector):
        if value.names is ri.NULL:
            return [_python(item) for item in value]
        return {name: _python(item) for name, item in value.items()}
    column = _column(value)
    return column[0] if len(column) == 1 else column


def _column(vector: Any) -> list[Any]:
    import rpy2.rinterface as ri

    missing = (ri.NA_Character, ri.NA_Integer, ri.NA_Logical)

    def plain(item: Any) -> Any:
        # NaN is the one value that differs from itself; NA_real_ is a NaN.
        if any(item is na for na in missing) or item != item:  # noqa: PLR0124
            return None
        return item

    return [plain(item) for item in vector]


@pytest.fixture(scope="session")
def models() -> Callable[[str], Models]:
    """``models("r-irt-plumber").fit(path, body)``: a service's functions, loaded once."""
    subprocess.run([COMMON / "install"], check=True)
    # Before R starts: where seedplumber is, and what RcppParallel calls when it loads.
    os.environ["R_LIBS_USER"] = str(ROOT / ".cache" / "R")
    if not shutil.which("dpkg-architecture"):
        os.environ["PATH"] += f"{os.pathsep}{COMMON / 'libexec'}"
    before = os.environ.get("LD_LIBRARY_PATH")
    import rpy2.robjects  # noqa: F401 - starts R, which puts its libraries on that path

    # They are not for the programs that other tests start: another Python's libraries may be among them.
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before
    return cache(Models)


@pytest.fixture(scope="session")
def http(services: dict[str, RService]) -> Callable[..., httpx.Response]:
    """``http("r-irt-plumber", path, body)``: ask the service itself."""

    def post(name: str, path: str, body: dict[str, Any]) -> httpx.Response:
        service = services[name]
        headers = {"Authorization": f"Bearer {service.token}"}
        return httpx.post(service.base_url + path, json=body, headers=headers, timeout=120)

    return post


@pytest.fixture(scope="session")
def published_template(postgres: Postgres, simulated_template: str, services: dict[str, RService]) -> str:
    """Name of a database of simulated learners in which every stage has published as of this week's Monday."""
    name = "published_template"
    url = postgres.create_database(name, template=simulated_template)
    with psycopg.connect(url, autocommit=True) as conn:
        database = Database(url, conn)
        monday = database("SELECT date_trunc('week', now())::date::text")[0][0]
        for stage in MODEL_STAGES:
            assert run_with(services, database, stage, "--as-of", monday) == ExitCode.OK, stage
    return name


_copies = iter(range(10**9))


@pytest.fixture
def published(postgres: Postgres, published_template: str) -> Iterator[Database]:
    """A database in which every stage has published once."""
    yield from copy_of(postgres, published_template, f"published_{next(_copies)}")
