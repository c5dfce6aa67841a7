"""The commands of the runbooks, run as they are printed, on a release to which what they are about has happened."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from cluster.conftest import Demo
from cluster.kube import until
from seed_analytics.errors import ExitCode
from support import ROOT

PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
ELSEWHERE = {
    "ImageBuild": "tests/images builds and starts the images",
    "SeedSecretNotSynced": "test_environment_values.py, on a release with ExternalSecrets",
}
STAGE, SERVICE = "cluster-segments", "r-irt-plumber"
NEEDS_METRICS = "kubectl -n NAMESPACE top"


def commands() -> list[Any]:
    """Return each command of each page, after those that only look those that change something."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"```sh\n(.+?)\n```", page.read_text(), re.DOTALL)
        inline = re.findall(r"`((?:kubectl|helm) [^`]+)`", page.read_text())
        # A sentence may also name a kubectl command without its arguments.
        whole = [command for command in [*blocks, *inline] if "NAMESPACE" in command]
        if page.stem not in ELSEWHERE:
            found += [pytest.param(page.stem, command, id=f"{page.stem}: {command[:70]}") for command in whole]
    return sorted(found, key=lambda case: bool(re.search(r"delete|restart|rollback|create|helm test", case.values[1])))


def restarted(demo: Demo) -> bool:
    """Say whether a container of the service has been started again."""
    return any(
        status.restart_count and status.ready
        for pod in demo.namespace.pods(app=SERVICE)
        for status in pod.status.container_statuses or ()
    )


def no_memory(spec: dict[str, Any]) -> None:
    """Give a Job less memory than its libraries want."""
    container = spec["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}}
    spec["backoffLimit"] = 0


def no_such_flag(spec: dict[str, Any]) -> None:
    """Give a Job a flag that its command does not have."""
    spec["template"]["spec"]["containers"][0]["args"].append("--no-such-flag")


@pytest.fixture(scope="module")
def names(demo: Demo) -> dict[str, str]:
    """Give what stands for a name in the pages: of a Job that failed, a pod that wanted more memory, ..."""
    demo.namespace.install("demo", files=["values-dev.yaml"])  # there is a revision to go back to
    job = demo.namespace.run_job(STAGE, "runbook-failed", no_such_flag)
    assert demo.namespace.ended(job).exit_codes == [ExitCode.USAGE]
    killed = demo.namespace.run_job(STAGE, "runbook-memory", no_memory)
    demo.namespace.ended(killed)
    (pod,) = demo.namespace.pods(job_name=killed)
    return {
        "NAMESPACE": demo.namespace.name,
        "RELEASE": "demo",
        "JOB": job,
        "POD": pod.metadata.name,
        "STAGE": STAGE,
        "SERVICE": SERVICE,
    }


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"\((\w+)\.md\)", (ROOT / "docs/runbooks/README.md").read_text()))
    assert listed == {page.stem for page in PAGES} - {"README"}


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_a_runbook_works(page: str, command: str, names: dict[str, str], demo: Demo) -> None:
    if command.startswith(NEEDS_METRICS) and not demo.namespace.cluster.kubectl("api-versions").count("metrics.k8s.io"):
        pytest.skip("kubectl top wants metrics-server, which the cluster lacks")
    filled = re.sub(r"\b(NAMESPACE|RELEASE|JOB|POD|STAGE|SERVICE)\b", lambda found: names[found[0]], command)
    if "--previous" in command:
        demo.namespace.kubectl("exec", f"deployment/{SERVICE}", "--", "sh", "-c", "kill -TERM 1")
        until("the container is started again", lambda: restarted(demo))
    done = demo.namespace.cluster.run("bash", "-c", filled, check=False)
    # grep finds nothing where nothing has happened.
    assert done.returncode == 0 or ("grep" in shlex.split(filled) and not done.stderr), done.stderr


def test_a_container_without_memory_is_seen_as_the_page_says(names: dict[str, str], demo: Demo) -> None:
    pod = demo.namespace.cluster.core.read_namespaced_pod(names["POD"], demo.namespace.name)
    ended = pod.status.container_statuses[0].state.terminated
    assert (ended.reason, ended.exit_code) == ("OOMKilled", 137)
