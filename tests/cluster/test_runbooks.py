"""The commands of the runbooks, run as they are printed, on what they are about: they show it, and they mend it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.harness.render import CHART, merged
from cluster.conftest import Demo, notes_commands
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, until, with_env
from seed_analytics.errors import ExitCode
from support import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(file.stem for file in FOLDER.glob("*.md") if file.stem != "README")
ELSEWHERE = {
    "SeedSecretNotSynced": "test_environment_values.py, on a release with ExternalSecrets",
    "ImageBuild": "tests/images builds and starts the images; a digest wants a registry",
}
"""Page whose commands another test runs -> which."""
IRT, BRMS = "r-irt-plumber", "r-brms-plumber"
STAGE = "cluster-segments"
GROWTH = "fit-bayesian-growth"
Names = dict[str, str]


def commands(page: str, part: str) -> list[str]:
    """Return the commands of a part of a page, Look or Mend."""
    text = (FOLDER / f"{page}.md").read_text().partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.+?)\n```", text, re.DOTALL)


def filled(command: str, names: Mapping[str, str]) -> str:
    return re.sub(
        r"\b(NAMESPACE|RELEASE|JOB|POD|STAGE|SERVICE|NAME)\b", lambda found: names.get(found[0], found[0]), command
    )


def test_every_page_is_in_the_index() -> None:
    assert set(re.findall(r"^\|.*\[\w+\]\((\w+)\.md\) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)) >= set(
        PAGES
    )


@pytest.mark.parametrize("part", ["Look", "Mend"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_command_to(page: str, part: str) -> None:
    assert commands(page, part)


def test_every_page_is_tried() -> None:
    assert {*CASES, *ELSEWHERE, "InstallFails"} == set(PAGES)


# --- What breaks, what shows it, and when it is well ------------------------------------------------------------------


@dataclass
class Case:
    """What a page is about.

    Attributes:
        breaks: make it happen, and return what stands for names in the page.
        seen: what each command of Look prints, in their order.
        well: assert that it is mended.
        names: what stands for names in the page besides the usual.

    """

    breaks: Callable[[Demo], Names]
    seen: tuple[str, ...]
    well: Callable[[Demo, Names], None]
    names: Names = field(default_factory=dict)


def upgrade(demo: Demo, *settings: str) -> None:
    """Change values of the release."""
    given = [f"--set={setting}" for setting in settings]
    demo.namespace.helm("upgrade", "demo", CHART, "--reuse-values", *given)


def value(demo: Demo, kind: str, name: str, path: str) -> str:
    """Return a field of an object as kubectl prints it."""
    return demo.namespace.kubectl("get", kind, name, f"--output=jsonpath={{{path}}}")


def in_shell(demo: Demo, service: str, *argv: str) -> str:
    return demo.namespace.kubectl("exec", f"deployment/{service}", "--", *argv)


def metric(demo: Demo, service: str, name: str) -> float:
    """Return the sum of a metric of a service."""
    ask = 'cat(readLines(url("http://127.0.0.1:8080/metrics")), sep = "\\n")'
    lines = in_shell(demo, service, "Rscript", "-e", ask).splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}\b", line))


def a_failed_run(demo: Demo) -> Names:
    def no_such_flag(spec: dict[str, Any]) -> None:
        spec["template"]["spec"]["containers"][0]["args"].append("--no-such-flag")

    job = demo.namespace.run_job(STAGE, "runbook-failed", no_such_flag)
    assert demo.namespace.ended(job).exit_codes == [ExitCode.USAGE]
    return {"JOB": job}


def run_again(demo: Demo, names: Names) -> None:
    assert value(demo, "cronjob", STAGE, ".spec.jobTemplate.spec.activeDeadlineSeconds") == "10800"
    demo.namespace.complete("check")
    assert "tables" in demo.namespace.log("check") or "rows" in demo.namespace.log("check")
    demo.namespace.complete(f"{STAGE}-mended")


def a_suspended_stage(demo: Demo) -> Names:
    upgrade(demo, f"{STAGE}.suspend=true")
    return {}


def started_again(demo: Demo, names: Names) -> None:
    assert value(demo, "cronjob", STAGE, ".spec.suspend") == "false"
    assert demo.namespace.ended(f"{STAGE}-again", 1).condition == "Complete"


def a_release_that_refuses_to_start(demo: Demo) -> Names:
    (before,) = demo.namespace.kubectl("get", "replicasets", "-l", f"app.kubernetes.io/name={IRT}", "-o=name").split()
    upgrade(demo, f"{IRT}.extraEnv[0].name=ALLOW_ANONYMOUS", f"{IRT}.extraEnv[0].value=perhaps")
    # As when no node has room for the old pod: nothing but the new one is left.
    demo.namespace.kubectl("delete", before)

    def waits() -> bool:  # while it is started again, it is shown as running
        pods = demo.namespace.pods(app=IRT)
        states = [status.state.waiting for pod in pods for status in pod.status.container_statuses or ()]
        return [state and state.reason for state in states] == ["CrashLoopBackOff"]

    until("the new container waits to be started again, and the old pod is gone", waits)
    return {}


def service_is_ready(demo: Demo, names: Names) -> None:
    demo.namespace.ready(names["SERVICE"])


def a_fit_at_work(demo: Demo) -> Names:
    job = demo.namespace.run_job(GROWTH, "runbook-fit", with_env(BRMS_N_SAMPLES="50000"))
    until("the service fits", lambda: metric(demo, BRMS, "seed_workers_busy") > 0, 90)
    return {"JOB": job}


def a_fit_after_a_fit(demo: Demo) -> Names:
    demo.namespace.run(GROWTH, "runbook-earlier")
    return a_fit_at_work(demo)


def a_worker_killed_in_mid_fit(demo: Demo) -> Names:
    names = a_fit_at_work(demo)
    lost = metric(demo, BRMS, "seed_worker_restarts_total")
    # R's other processes carry no --slave; the bracket keeps grep and this shell from finding themselves.
    kill = "for p in /proc/[0-9]*; do grep -qae '[-]-slave' $p/cmdline && kill -9 ${p#/proc/}; done; true"
    in_shell(demo, BRMS, "sh", "-c", kill)
    until("the worker is missed", lambda: metric(demo, BRMS, "seed_worker_restarts_total") > lost, 60)
    demo.namespace.kubectl("delete", "job", names["JOB"])
    return names


def no_memory(demo: Demo) -> Names:
    def little(spec: dict[str, Any]) -> None:
        container = spec["template"]["spec"]["containers"][0]
        container["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}}
        spec["backoffLimit"] = 0

    job = demo.namespace.run_job(STAGE, "runbook-memory", little)
    demo.namespace.ended(job)
    (pod,) = demo.namespace.pods(job_name=job)
    return {"JOB": job, "POD": pod.metadata.name}


def more_memory(kind: str, path: str, limit: str) -> Callable[[Demo, Names], None]:
    def well(demo: Demo, names: Names) -> None:
        name = names["SERVICE"] if kind == "deployment" else STAGE
        assert value(demo, kind, name, f"{path}.containers[0].resources.limits.memory") == limit

    return well


def two_workers(demo: Demo, names: Names) -> None:
    until("both workers are ready", lambda: metric(demo, BRMS, "seed_workers") == 2, 60)
    demo.namespace.kubectl("delete", "job", names["JOB"], "--ignore-not-found")


def the_quick_engine(demo: Demo, names: Names) -> None:
    env = value(demo, "cronjob", GROWTH, ".spec.jobTemplate.spec.template.spec.containers[0].env")
    assert {"name": "BRMS_ENGINE", "value": "marginal"} in json.loads(env)
    assert names["JOB"] not in demo.namespace.kubectl("get", "jobs", "-o=name")
    demo.namespace.ready(BRMS)


CASES = {
    "SeedStageFailed": Case(a_failed_run, ("no-such-flag", rf"'{STAGE}', 'succeeded'", r"Error +64"), run_again),
    # A stage that is suspended makes no events.
    "SeedStageStale": Case(a_suspended_stage, (r" true ", "", f"job.batch/{STAGE}-first"), started_again),
    "SeedServiceDown": Case(
        a_release_that_refuses_to_start,
        ("CrashLoopBackOff|Error", "ALLOW_ANONYMOUS"),
        service_is_ready,
        {"SERVICE": IRT},
    ),
    "SeedServiceErrors": Case(a_worker_killed_in_mid_fit, ("/growth/fit.*500|500.*/growth/fit",), service_is_ready),
    "SeedServiceBusy": Case(a_fit_at_work, ("runbook-fit",), two_workers),
    "SeedWorkerRestarts": Case(
        a_worker_killed_in_mid_fit,
        ("worker_lost.*busy", BRMS),
        more_memory("deployment", ".spec.template.spec", "3Gi"),
    ),
    "SeedPodOutOfMemory": Case(
        no_memory,
        (r"runbook-memory-\w+ OOMKilled", f"{STAGE} 48Mi"),
        more_memory("cronjob", ".spec.jobTemplate.spec.template.spec", "2Gi"),
    ),
    "StanTime": Case(
        a_fit_after_a_fit, ("BRMS_N_SAMPLES=", "/growth/fit", r"seed_workers_busy\S* [1-9]"), the_quick_engine
    ),
}


@pytest.mark.parametrize("page", CASES)
def test_a_page_shows_what_broke_and_mends_it(page: str, demo: Demo) -> None:
    case, namespace = CASES[page], demo.namespace
    names = {"NAMESPACE": namespace.name, "RELEASE": "demo", "STAGE": STAGE, "SERVICE": BRMS} | case.names
    names |= case.breaks(demo)
    for command, seen in zip(commands(page, "Look"), case.seen, strict=True):
        if " top pods " in command and "metrics.k8s.io" not in namespace.cluster.kubectl("api-versions"):
            continue  # kubectl top wants metrics-server
        done = namespace.cluster.run("bash", "-c", filled(command, names), check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert re.search(seen, done.stdout), f"{command}\ndoes not show «{seen}»:\n{done.stdout}"
    for command in commands(page, "Mend"):
        namespace.cluster.run("bash", "-c", filled(command, names))
    case.well(demo, names)


def test_an_install_that_failed_is_shown_and_mended(namespace: Namespace) -> None:
    alone = merged(
        *(SMALL, SERVICES_OFF, STAGES_OFF),
        {"global": {"secrets": {"source": "existing"}}, "migrations": {"mode": "none"}, IRT: {"enabled": True}},
    )
    assert namespace.install("bad", alone, timeout="20s", check=False).returncode
    names = {"NAMESPACE": namespace.name, "RELEASE": "bad", "NAME": "calibrate-irt-credentials"}

    def shown() -> bool:
        look = [namespace.cluster.run("bash", "-c", filled(c, names)).stdout for c in commands("InstallFails", "Look")]
        causes = "CreateContainerConfigError", 'secret "calibrate-irt-credentials" not found'
        return all(cause in "".join(look) for cause in causes)

    until("the page's commands show the cause", shown, 90)
    for command in commands("InstallFails", "Mend"):
        done = namespace.cluster.run("bash", "-c", filled(command, names))
    namespace.ready(IRT, 1)
    assert "Next:" in done.stdout


def test_verify_runs_without_a_release_as_the_index_says_for_argo_cd(demo: Demo, tmp_path: Path) -> None:
    (block,) = re.findall(r"## With Argo CD\n.+?```sh\n(.+?)\n```", (FOLDER / "README.md").read_text(), re.DOTALL)
    values = tmp_path / "values.yaml"
    values.write_text(
        yaml.safe_dump(merged(yaml.safe_load((CHART / "values-dev.yaml").read_text()), demo.namespace.cluster.values))
    )
    names = {"NAMESPACE": demo.namespace.name, "RELEASE": "demo"}
    command = filled(block.replace("charts/seed-analytics/values-ENVIRONMENT.yaml", str(values)), names)
    assert re.search(r"All \d+ checks are well", demo.namespace.cluster.run("bash", "-c", command).stdout)


def test_a_first_run_that_fails_ends_the_commands_of_the_notes(cluster: Cluster, namespace: Namespace) -> None:
    """A stage whose database is nowhere."""
    namespace.secret("seedtest-db-credentials", DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/nothing")
    installed = namespace.install(
        "notes",
        *(SMALL, SERVICES_OFF, STAGES_OFF),
        {
            "global": {"secrets": {"source": "existing"}, "stages": {"backoffLimit": 0}},
            "migrations": {"mode": "none"},
            "compute-weekly-kpis": {"enabled": True},
            STAGE: {"enabled": True},
        },
    )
    (command,) = (line for line in notes_commands(installed.stdout) if " create job " in line)
    done = cluster.run("bash", "-c", command, check=False, timeout=300)
    assert done.returncode != 0
    assert "Failed" in done.stdout
    assert "DATABASE_URL" in done.stdout
    assert namespace.kubectl("get", "jobs", "-o=name").split() == ["job.batch/compute-weekly-kpis-first"]
