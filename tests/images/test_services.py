"""The three services, each in its container: health, real fits, refusals, signals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from containers import SERVICES, TOKEN, VERSION, Containers, Service, find_image, serve
from docker import DockerClient
from fits import FITS, LONG, ROUTES

STAMPED = ("R", "rstan", "StanHeaders", "platform", "source")  # recorded with each compiled model
MANY, MANY_SLOW = 120, 30


def test_it_becomes_healthy(service: Service) -> None:
    def health() -> str:
        service.container.reload()
        return str(service.container.attrs["State"]["Health"]["Status"])

    service.wait(lambda: health() == "healthy", "healthy")


def test_health_names_service_and_version(service: Service) -> None:
    health = httpx.get(f"{service.base_url}/healthz", timeout=10).json()
    more = {"stan_version"} if service.name == "r-brms-plumber" else set()
    assert health.keys() == {"status", "service", "version", "timestamp"} | more
    assert (health["status"], health["service"], health["version"]) == ("ok", service.name, VERSION)


@pytest.mark.parametrize("name", SERVICES)
def test_at_rest_it_holds_less_than_400_mb_and_after_many_fits_hardly_more(containers: Containers, name: str) -> None:
    service = serve(containers, name)
    at_rest = service.memory_mb()
    assert at_rest < 400
    for path, body in FITS[name].items():
        for _ in range(MANY_SLOW if path == "/prophet/fit" else MANY):
            assert service.post(path, body).status_code == 200
        assert service.memory_mb() < 1.2 * at_rest, path


@pytest.mark.parametrize(("service", "path"), ROUTES, indirect=["service"], ids=[path for _, path in ROUTES])
def test_it_fits(service: Service, path: str) -> None:
    reply = service.post(path, FITS[service.name][path] | {"seed": 7})
    assert reply.status_code == 200, reply.text
    assert reply.json()["seed"] == 7
    assert reply.json()["versions"]["R"] >= "4.5"


def test_engine_brms_needs_no_compiler(lasting: Containers) -> None:
    service = serve(lasting, "r-brms-plumber", mem_limit="4g", memswap_limit="4g")
    body = FITS["r-brms-plumber"]["/growth/fit"]
    for family in ("gaussian", "student"):
        reply = service.post("/growth/fit", body | {"engine": "brms", "family": family})
        assert reply.status_code == 200, reply.text
        assert (reply.json()["engine"], reply.json()["family"]) == ("brms", family)


def test_a_wrong_token_is_refused(service: Service) -> None:
    path = next(iter(FITS[service.name]))
    reply = httpx.post(service.base_url + path, json={}, headers={"Authorization": f"Bearer {TOKEN}x"}, timeout=10)
    assert reply.status_code == 401


@pytest.mark.parametrize("name", SERVICES)
def test_it_does_not_start_without_a_token(containers: Containers, name: str) -> None:
    ended = containers.run(name)
    assert ended.code == 78
    assert "INTERNAL_TOKEN" in ended.output


def test_it_does_not_start_where_tmp_cannot_be_written(containers: Containers) -> None:
    ended = containers.run("r-irt-plumber", tmpfs={}, environment={"INTERNAL_TOKEN": TOKEN})
    assert ended.code == 78
    assert "/tmp cannot be written to" in ended.output  # noqa: S108 - in the container


def test_it_does_not_start_where_its_port_is_taken(service: Service, containers: Containers) -> None:
    network = f"container:{service.container.id}"
    ended = containers.run(service.name, network_mode=network, environment={"INTERNAL_TOKEN": TOKEN})
    assert ended.code == 78
    assert "port 8080: is it in use?" in ended.output


@pytest.mark.parametrize("name", SERVICES)
def test_its_models_are_compiled(containers: Containers, name: str) -> None:
    listed = containers.shell(name, f"ls {name}/R").output.split()
    sources = {file for file in listed if file.endswith(".R")}
    assert sources
    assert set(listed) == sources | {f"{file}c" for file in sources}


@pytest.mark.parametrize(
    ("model", "part"),
    [
        *(("growth_marginal", part) for part in STAMPED),
        *((f"brms_{family}", part) for family in ("gaussian", "student") for part in (*STAMPED, "brms")),
    ],
)
def test_brms_does_not_start_with_a_model_made_for_another(containers: Containers, model: str, part: str) -> None:
    script = (
        'cp -r "$STAN_MODEL_DIR" /tmp/stan && export STAN_MODEL_DIR=/tmp/stan &&'
        f""" sed -i 's/"{part}": "[^"]*"/"{part}": "other"/' /tmp/stan/{model}.json &&"""
        " exec r-plumber-common/serve r-brms-plumber"
    )
    ended = containers.shell("r-brms-plumber", script, environment={"INTERNAL_TOKEN": TOKEN})
    assert ended.code == 78
    assert f"is for {part} other" in ended.output


@pytest.mark.parametrize("name", SERVICES)
def test_told_to_stop_it_is_unhealthy_and_finishes_the_fit(
    engine: DockerClient, containers: Containers, name: str
) -> None:
    health = find_image(engine, name).attrs["Config"]["Healthcheck"]["Test"][1:]
    service = serve(containers, name, environment={"SHUTDOWN_GRACE_SECS": "240"})
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(service.post, *LONG[name])
        service.wait(service.busy, "a worker is busy")
        assert service.container.exec_run(health).exit_code == 0
        service.container.kill("SIGTERM")
        service.wait(
            lambda: (reply := service.get("/readyz")) is not None and reply.status_code == 503, "no longer ready"
        )
        assert service.container.exec_run(health).exit_code != 0
        assert not fit.done(), "the fit was over before the signal arrived: make it longer"
        assert fit.result().status_code == 200, fit.result().text
    assert service.container.wait(timeout=60)["StatusCode"] == 0
