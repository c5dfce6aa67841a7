"""What the four images hold and, above all, do not hold."""

from __future__ import annotations

import json

import pytest
from containers import IMAGES, JOBS, SERVICES, VERSION, Containers, find_image
from docker import DockerClient
from docker.models.images import Image
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

MEGABYTE = 1e6
SIZE_LIMITS = {JOBS: 400, "r-irt-plumber": 700, "r-forecast-plumber": 1000, "r-brms-plumber": 1200}
COMPILERS = [
    "cc",
    "c++",
    "gcc",
    "g++",
    "gfortran",
    "clang",
    "cpp",
    "as",
    "ld",
    "make",
    "cmake",
    "pip",
    "pip3",
    "cc1",
    "cc1plus",
]


def test_it_declares_an_unprivileged_account_and_its_labels(image: Image) -> None:
    config = image.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["version"] == VERSION
    assert f"{labels['title']}:{VERSION}" in image.tags[0]
    assert labels.keys() >= {"description", "licenses", "revision", "source"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_how_to_ask_for_its_health(engine: DockerClient, name: str) -> None:
    config = find_image(engine, name).attrs["Config"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert "8080/tcp" in config["ExposedPorts"]


@pytest.mark.parametrize("name", IMAGES)
def test_it_is_small(engine: DockerClient, name: str) -> None:
    assert find_image(engine, name).attrs["Size"] / MEGABYTE < SIZE_LIMITS[name]


def test_it_runs_as_10001(containers: Containers, image: Image) -> None:
    assert containers.shell(image, "id -u; id -g; grep CapEff /proc/self/status | cut -f2").output.split() == [
        "10001",
        "10001",
        "0" * 16,
    ]


def test_it_holds_no_compiler(containers: Containers, image: Image) -> None:
    names = " -o ".join(f"-name {name} -o -name '*-linux-gnu-{name}*'" for name in COMPILERS)
    # R's and Python's own folders hold texts of these names, so only what can be run counts.
    found = containers.shell(image, f"find / -xdev -type f -perm /111 \\( {names} \\) 2>/dev/null; true")
    assert found.output.split() == []


def test_it_holds_no_package_lists_or_caches(containers: Containers, image: Image) -> None:
    script = "for folder in /var/lib/apt/lists /var/cache/apt /var/log ~root /src; do"
    script += " [ ! -e $folder ] || find $folder -type f -not -path ~root/.bashrc -not -path ~root/.profile; done"
    found = containers.shell(image, script, user="0", cap_add=["DAC_READ_SEARCH"])
    assert (found.code, found.output.split()) == (0, [])


def test_it_holds_no_tests(containers: Containers, image: Image) -> None:
    folders = " -o ".join(f"-path '*/{name}/*'" for name in ("test", "tests", "testing/suite", "testthat", "tinytest"))
    script = f"find /opt /usr/lib/R /usr/lib/python3* -type f \\( {folders} \\) 2>/dev/null; true"
    assert containers.shell(image, script).output.split() == []


def test_only_tmp_can_be_written(containers: Containers, image: Image) -> None:
    # Also with a writable root: nothing of the image belongs to the account, or is open to everybody.
    script = "find / -xdev -writable -not -path '/proc/*' -not -path '/dev/*' -not -path '/tmp*' -not -type l 2>/dev/null; true"
    found = set(containers.shell(image, script, read_only=False).output.split())
    assert found <= {"/var/tmp", "/run/lock"}  # noqa: S108


def test_it_lists_its_packages_and_their_versions(containers: Containers, image: Image) -> None:
    text = containers.shell(image, "cat /usr/share/seed-analytics/packages.tsv").output
    header, *rows = [line.split("\t") for line in text.splitlines()]
    assert header == ["type", "name", "version"]
    versions = {(kind, name): version for kind, name, version in rows}
    assert all(versions.values())
    if JOBS in image.tags[0]:
        assert versions["pypi", "seed-analytics"] == VERSION
        assert ("deb", "python3") in versions
    else:
        assert versions["deb", "r-cran-plumber"] >= "1.2"


def test_its_sbom_names_every_package_once(containers: Containers, image: Image) -> None:
    folder = "/usr/share/seed-analytics"
    table, sbom = (containers.shell(image, f"cat {folder}/{name}").output for name in ("packages.tsv", "sbom.cdx.json"))
    document = json.loads(sbom)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert f"{document['metadata']['component']['name']}:" in image.tags[0]
    packages = [PackageURL.from_string(component["purl"]) for component in document["components"]]
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    assert sorted((package.type, package.name, package.version) for package in packages) == sorted(
        (kind, canonicalize_name(name) if kind == "pypi" else name, version) for kind, name, version in rows
    )
    assert len({component["bom-ref"] for component in document["components"]}) == len(rows)


def test_its_list_is_what_is_installed(containers: Containers, image: Image) -> None:
    table = containers.shell(image, "cat /usr/share/seed-analytics/packages.tsv").output.splitlines()[1:]
    debian = containers.shell(image, r"dpkg-query -W -f 'deb\t${Package}\t${Version}\n'").output.splitlines()
    python: list[str] = []
    if JOBS in image.tags[0]:
        script = (
            "from importlib.metadata import distributions as d; "
            "[print('pypi', p.name, p.version, sep='\\t') for p in d() if '/opt/' in str(p.locate_file(''))]"
        )
        python = containers.run(image, "-c", script, entrypoint="python").output.splitlines()
    assert sorted(table) == sorted(debian + python)


@pytest.mark.parametrize("name", SERVICES)
def test_its_r_packages_are_the_distributions(containers: Containers, name: str) -> None:
    script = 'cat(file.path(.libPaths(), rep("*", length(.libPaths()))))'
    ours, *theirs = containers.run(name, "-e", script, entrypoint="Rscript").output.split()
    assert containers.shell(name, f"ls -d {ours}").output.split() == ["/opt/seed-analytics/library/seedplumber"]
    owned = containers.shell(
        name, f"for f in {' '.join(theirs)}; do [ ! -d $f ] || dpkg -S $f >/dev/null || echo $f; done"
    )
    assert (owned.code, owned.output) == (0, "")


def test_jobs_holds_the_pinned_versions(containers: Containers) -> None:
    script = "python3 --version && grep ^pypi /usr/share/seed-analytics/packages.tsv"
    python, *rows = containers.shell(JOBS, script).output.splitlines()
    found = {canonicalize_name(name): version for _, name, version in (row.split("\t") for row in rows)}
    assert found.pop("seed-analytics") == VERSION
    here = {"python_full_version": python.removeprefix("Python ")}
    constraints = map(Requirement, (ROOT / "constraints.txt").read_text().splitlines())
    pins = {canonicalize_name(pin.name): pin for pin in constraints if pin.marker is None or pin.marker.evaluate(here)}
    assert {f"{name}=={version}" for name, version in found.items()} == {
        f"{name}{pins[name].specifier}" for name in found
    }


def test_jobs_says_its_version(containers: Containers) -> None:
    ended = containers.run(JOBS, "--version")
    assert (ended.code, ended.output) == (0, f"seed-analytics, version {VERSION}\n")


def test_jobs_says_what_is_not_set(containers: Containers) -> None:
    ended = containers.run(JOBS, "cluster-segments")
    assert ended.code == 78
    assert "DATABASE_URL" in ended.output
