"""Section 8 of docs/install.md as printed, up to the stages: from a database without a table to weekly KPIs."""

from __future__ import annotations

import re
from secrets import token_hex

from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Namespace, Postgres
from support import ROOT

ONCE = re.compile(r"^once (\S+) .+$", re.MULTILINE)


def section() -> str:
    """Return the commands of section 8, but for helm test, which wants every stage."""
    text = (ROOT / "docs" / "install.md").read_text().partition("\n## 8. ")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.+?)\n```", text, re.DOTALL)
    return "\n".join(block for block in blocks if not block.startswith("helm test"))


def install(namespace: Namespace, postgres: Postgres, *stages: str) -> str:
    """Install the release of the guide on an empty database, with these stages only, and return the database's name."""
    database = f"guide_{token_hex(2)}"
    postgres.sql(f"CREATE DATABASE {database}", "postgres")
    namespace.secret("seedtest-db-credentials", DATABASE_URL=postgres.url(database))
    on = {stage: {"enabled": True} for stage in stages}
    source = {"global": {"secrets": {"source": "existing"}}}
    namespace.install("seed-analytics", SMALL, SERVICES_OFF, STAGES_OFF, source, on)
    return database


def test_a_trial_goes_from_no_table_to_weekly_kpis(namespace: Namespace, postgres: Postgres) -> None:
    database = install(namespace, postgres, "compute-weekly-kpis", "cluster-segments")
    commands = f"export NAMESPACE={namespace.name}\n{section()}"
    done = namespace.cluster.run("bash", "-c", commands, timeout=900)
    assert len(re.findall(r"^(?:SuccessCriteriaMet )?Complete$", done.stdout, re.MULTILINE)) == len(
        ONCE.findall(section())
    )
    (learners,) = postgres.sql("SELECT count(DISTINCT user_id) FROM weekly_kpi WHERE kpis ? 'A_t'", database)
    assert int(learners) > 400  # of the 500 that the guide simulates; the others did not come in time


def test_a_run_that_fails_ends_the_commands(namespace: Namespace, postgres: Postgres) -> None:
    """The platform's tables are not there, so check-inputs ends with exit code 65."""
    install(namespace, postgres, "cluster-segments")
    commands = section()
    commands = commands[: ONCE.search(commands).start()]  # type: ignore[union-attr]
    call = "once check-inputs cluster-segments '\"check-inputs\"'"
    done = namespace.cluster.run("bash", "-c", f"export NAMESPACE={namespace.name}\n{commands}\n{call}", check=False)
    assert done.returncode != 0
    assert "table attempt is missing" in done.stdout
