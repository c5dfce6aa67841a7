"""What `helm lint --strict`, yamllint and the checks of `ct lint` say of the chart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import Input, inputs
from chart.harness.helm import REPOSITORY
from chart.harness.render import CHART, KUBERNETES, Renderer

CHARTS = sorted(file.parent for file in CHART.rglob("Chart.yaml"))
CONFIGURED = yaml.safe_load((REPOSITORY / "ct.yaml").read_text())


def metadata(chart: Path) -> dict[str, Any]:
    return yaml.safe_load((chart / "Chart.yaml").read_text())


LINTED = {name: given for name, given in inputs().items() if not given.options}


@pytest.mark.parametrize("given", LINTED.values(), ids=LINTED)
def test_helm_lint_has_nothing_to_say(given: Input, render: Renderer, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(dict(given.values)))
    files = [*(CHART / file for file in given.files), tmp_path / "values.yaml"]
    done = render.run(
        "lint", "--strict", "--kube-version", KUBERNETES[0], *(f"--values={file}" for file in files), CHART
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [line for line in said if "icon is recommended" not in line] == []


def test_yamllint_has_nothing_to_say() -> None:
    files = [
        *CHART.glob("*.yaml"),
        *CHART.glob("ci/*.yaml"),
        *CHART.glob("charts/*/*.yaml"),
        *CHART.glob("files/*.yaml"),
    ]
    files += sorted(Path(REPOSITORY / "argocd").rglob("*.yaml"))
    configuration = REPOSITORY / CONFIGURED["lint-conf"]
    done = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "--config-file", configuration, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


NOT_ASKED_OF_CHECKOV = {
    "CKV_K8S_11": "a CPU limit only slows a fit down; memory is limited, and CPU is requested",
    "CKV_K8S_15": "images are by version or digest, so Always would only make pods depend on the registry",
    "CKV_K8S_35": "the program reads its settings, secrets too, from the environment (README.md, Settings)",
    "CKV_K8S_40": "the throw-away database runs as its image's own user, 999",
    "CKV_K8S_43": "values-prod.yaml has digests; elsewhere a version is enough, and latest is refused",
}
"""Check -> why it is not asked."""


@pytest.fixture(scope="module")
def failed_checks(render: Renderer, checkov: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What checkov finds in every render, exemptions too: one run, since most of it is the start."""
    folder = tmp_path_factory.mktemp("rendered")
    for name, given in inputs().items():
        release = render(given.values, files=given.files, **given.options)
        (folder / f"{name.replace(' ', '-')}.yaml").write_text(release.text)
    command = [checkov, f"--directory={folder}", "--framework=kubernetes", "--quiet", "--compact", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["resource_count"] > 100
    return report["results"]["failed_checks"]


def test_checkov_has_nothing_to_say(failed_checks: list[dict[str, Any]]) -> None:
    found = [
        f"{check['check_id']} {check['file_path']} {check['resource']}: {check['check_name']}"
        for check in failed_checks
        if check["check_id"] not in NOT_ASKED_OF_CHECKOV
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("check", NOT_ASKED_OF_CHECKOV)
def test_an_exemption_from_checkov_is_still_needed(check: str, failed_checks: list[dict[str, Any]]) -> None:
    assert check in {failed["check_id"] for failed in failed_checks}


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_a_chart_is_what_chart_testing_wants(chart: Path) -> None:
    """Ask what `ct lint` asks of a Chart.yaml, its own schema too (charts/.ct/chart_schema.yaml)."""
    said = metadata(chart)
    own, listed = list(yaml.safe_load_all((REPOSITORY / CONFIGURED["chart-yaml-schema"]).read_text()))
    assert said.keys() <= own.keys()
    assert {name for name, rule in own.items() if "required=False" not in rule} - {"appVersion"} <= said.keys()
    assert said["name"] == chart.name
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", str(said["version"]))
    for entry in said.get("dependencies", ()):
        assert entry.keys() <= listed["dependency"].keys()


def test_the_umbrella_names_its_maintainers_home_and_sources() -> None:
    said = metadata(CHART)
    assert all(person.get("name") for person in said["maintainers"])
    assert said["home"]
    assert said["sources"]
    assert said["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_the_dependencies_are_the_folders_and_none_comes_from_elsewhere() -> None:
    listed = metadata(CHART)["dependencies"]
    assert {entry["name"] for entry in listed} == {chart.name for chart in CHARTS if chart != CHART}
    for entry in listed:
        assert "repository" not in entry
        assert entry["version"] == metadata(CHART / "charts" / entry["name"])["version"]
        assert entry.get("condition") == (None if entry["name"] == "seed-lib" else f"{entry['name']}.enabled")


def git(repository: Path, *args: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", repository, *settings, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def not_raised(chart: Path, since: str) -> str:
    """Ask what `ct lint` asks of a branch: a chart that differs from that of a commit has another version."""
    version = metadata(chart)["version"]
    before = yaml.safe_load(git(chart, "show", f"{since}:./Chart.yaml"))["version"]
    changed = git(chart, "diff", "--name-only", since, "--", ".").splitlines()
    return (
        f"{version} was that of {since} too, and {', '.join(changed)} differ" if changed and version == before else ""
    )


def test_the_version_was_raised_if_the_released_chart_has_changed() -> None:
    version = metadata(CHART)["version"]
    released = git(REPOSITORY, "tag", "--list", f"seed-analytics-{version}", f"v{version}").splitlines()
    assert not [fault for tag in released if (fault := not_raised(CHART, tag))]


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A chart in a repository of its own, as its main branch has it."""
    chart = tmp_path / "charts" / "one"
    chart.mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: one, version: 1.2.3, description: One}\n")
    (chart / "values.yaml").write_text("a: 1\n")
    (chart / "templates").mkdir()
    (chart / "templates" / "one.yaml").write_text("# Nothing\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=one")
    return chart


def test_a_chart_that_is_as_it_was_needs_no_new_version(committed: Path) -> None:
    (committed.parent / "elsewhere").write_text("a change")
    assert not_raised(committed, "main") == ""


def test_a_changed_chart_of_the_same_version_is_noticed(committed: Path) -> None:
    (committed / "values.yaml").write_text("a: 2\n")
    assert "charts/one/values.yaml" in not_raised(committed, "main")


def test_a_changed_chart_of_another_version_is_well(committed: Path) -> None:
    (committed / "values.yaml").write_text("a: 2\n")
    (committed / "Chart.yaml").write_text("{apiVersion: v2, name: one, version: 1.2.4, description: One}\n")
    assert not_raised(committed, "main") == ""


@pytest.fixture
def ct(render: Renderer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Chart-testing, which calls Helm, yamllint and yamale by name."""
    found = shutil.which("ct")
    if not found:
        pytest.skip("chart-testing (ct) is not on PATH")
    for folder in (Path(sys.executable).parent, render.binary.parent):
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return found


def test_ct_lint_has_nothing_to_say(ct: str) -> None:
    done = subprocess.run(
        [ct, "lint", "--config=ct.yaml", "--all"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("version", "verdict"), [("1.2.3", "Needs a version bump"), ("1.2.4", "")])
def test_ct_lint_of_a_branch_asks_for_a_new_version_of_a_changed_chart(
    ct: str, committed: Path, version: str, verdict: str
) -> None:
    root = committed.parents[1]
    git(root, "remote", "add", "origin", str(root))
    git(root, "fetch", "--quiet", "origin")
    git(root, "switch", "--quiet", "--create", "work")
    (committed / "values.yaml").write_text("a: 2\n")
    (committed / "Chart.yaml").write_text(f"{{apiVersion: v2, name: one, version: {version}, description: One}}\n")
    git(root, "commit", "--quiet", "--all", "--message=two")
    command = [ct, "lint", f"--config={REPOSITORY / 'ct.yaml'}", "--target-branch=main"]
    own = [f"--lint-conf={REPOSITORY / CONFIGURED['lint-conf']}", "--validate-chart-schema=false"]
    done = subprocess.run([*command, *own], cwd=root, capture_output=True, text=True, check=False)
    assert verdict.lower() in (done.stdout + done.stderr).lower()
    assert (done.returncode == 0) is (verdict == ""), done.stdout + done.stderr


def test_every_values_file_for_ct_is_small_enough_to_install() -> None:
    """Ask that `ct install` of each needs no operator: nothing from a store, no custom resource."""
    files = sorted(CHART.glob("ci/*-values.yaml"))
    assert files
    for file in files:
        assert yaml.safe_load(file.read_text())["global"]["secrets"]["source"] == "inline", file.name


def test_no_template_name_lacks_the_prefix_of_its_chart() -> None:
    """Template names are global to a release: without a prefix they collide."""
    for chart in CHARTS:
        for file in sorted((chart / "templates").glob("*.*")):
            for name in re.findall(r'\{\{-?\s*define\s+"([^"]+)"', file.read_text()):
                assert name.startswith(f"{chart.name}."), f"{file.relative_to(CHART)} defines {name}"


def test_every_template_that_is_defined_is_used() -> None:
    texts = [file.read_text() for file in CHART.rglob("templates/*.*")]
    defined = {name for text in texts for name in re.findall(r'define\s+"([^"]+)"', text)}
    used = {name for text in texts for name in re.findall(r'(?:include|template)\s+"([^"]+)"', text)}
    assert defined == used


@pytest.mark.parametrize(
    "chart", [chart for chart in CHARTS if chart.parent != CHART.parent], ids=lambda chart: chart.name
)
def test_a_subchart_is_thin(chart: Path) -> None:
    """A stage or service is one include: all else is in seed-lib."""
    if metadata(chart)["type"] == "library":
        return
    (template,) = (chart / "templates").glob("*.yaml")
    text = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", template.read_text(), flags=re.DOTALL).strip()
    assert re.fullmatch(r'\{\{-? include "seed-lib\.(stage|service)" .*\}\}', text), text
