"""The long campaigns: more simulations than continuous integration has time for.

    python tests/validate.py [--fits 10000] [--series 100] [--replications 50] [growth] [irt] [forecast] [survival]

Each campaign draws its picture beside the models' pages and rewrites its own section of docs/models/validation.md with
date, versions and command. Growth is kept in pieces of 500 fits under .cache/validate, so that a campaign that was
stopped goes on where it was; a piece older than the model's sources is made again.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import held_out
import numpy as np
from numpy.typing import NDArray
from ranks import chi_square, ecdf
from scipy.stats import norm
from support import ROOT

DOCS = ROOT / "docs" / "models"
PAGE = DOCS / "validation.md"
KEPT = ROOT / ".cache" / "validate"
PIECE = 500  # fits
INTRODUCTION = """# Long validation campaigns

What `make validate` has measured: more simulations than continuous integration has time for. Each section is written by
its campaign.
"""
DRAW_RANKS = """for (file in Sys.glob("r-brms-plumber/R/*.R")) source(file)
source("r-brms-plumber/sbc.R")
files <- commandArgs(TRUE)
plot_ranks(read.csv(files[1]), files[2])"""
Table = list[dict[str, str]]


def r(*argv: str | Path) -> str:
    """Run an R script and return what it prints."""
    environment = os.environ | {
        "R_LIBS_USER": str(ROOT / ".cache" / "R"),
        "PATH": f"{os.environ['PATH']}{os.pathsep}{ROOT / 'r-plumber-common' / 'libexec'}",
    }
    return subprocess.run(
        ["Rscript", *argv], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment
    ).stdout


def versions(*packages: str) -> str:
    """R and its packages, as installed."""
    ask = "cat(R.version.string, sapply(commandArgs(TRUE), function(p) paste(p, packageVersion(p))), sep = ', ')"
    return r("-e", ask, *packages)


def read(text: str) -> Table:
    return list(csv.DictReader(io.StringIO(text)))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def growth(arguments: argparse.Namespace) -> tuple[str, str]:
    """Simulation-based calibration of the growth model, in pieces of 500 fits with the seeds 1, 2, ..."""
    KEPT.mkdir(parents=True, exist_ok=True)
    service = ROOT / "r-brms-plumber"
    sources = [service / "sbc.R", *(service / "R").glob("*.R"), *(service / "stan").glob("*.stan")]
    newest = max(source.stat().st_mtime for source in sources)
    files = [KEPT / f"sbc-{PIECE}-{seed}.csv" for seed in range(1, arguments.fits // PIECE + 1)]

    def piece(seed: int, file: Path) -> None:
        if not file.exists() or file.stat().st_mtime < newest:
            found = r("r-brms-plumber/sbc.R", str(PIECE), str(seed))
            file.write_text(found)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(piece, range(1, len(files) + 1), files))
    rows = [row for file in files for row in read(file.read_text())]
    ranks: dict[str, NDArray[np.float64]] = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    names = [name for name in ranks if name not in ("max_rhat", "min_ess", "divergent")]
    with (KEPT / "sbc.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    r("-e", DRAW_RANKS, KEPT / "sbc.csv", DOCS / "growth-sbc-long.svg")
    text = f"""Ranks of the truth in {len(rows):,} fits (25 learners, 8 weeks, 30 % missing; truth from the priors) must be
uniform ([growth](growth.md)). P values of χ² with 20 bins and of simultaneous ECDF bands:

{table(["", *names], [["χ²", *(f"{chi_square(ranks[n]):.2f}" for n in names)], ["ECDF", *(f"{ecdf(ranks[n]):.2f}" for n in names)]])}

R-hat at most 1.01 in {np.mean(ranks["max_rhat"] <= 1.01):.2%} of the fits, ESS at least 400 in
{np.mean(ranks["min_ess"] >= 400):.2%}, {int(ranks["divergent"].sum())} divergent transitions in all.

![ECDF of the ranks less the uniform, for six parameters and P](growth-sbc-long.svg)"""
    return text, versions("rstan", "posterior")


def irt(arguments: argparse.Namespace) -> tuple[str, str]:
    """Recovery of items by sample size."""
    n = arguments.replications
    found = read(r("r-irt-plumber/recovery.R", str(n), "1", DOCS / "irt-recovery.svg"))
    head = ["model", "learners", "answers a learner", "answers an item", "fitted"]
    head += [f"{what} of {name}" for name in "ab" for what in ("bias", "RMSE", "coverage")] + ["coverage of theta"]
    rows = [
        [
            *(row["model"], row["n_users"], row["n_each"], row["answers_an_item"], f"{float(row['fitted']):.1%}"),
            *(
                f"{float(row[f'{what}_{name}']):.1%}" if what == "coverage" else f"{float(row[f'{what}_{name}']):.3f}"
                for name in "ab"
                for what in ("bias", "rmse", "coverage")
            ),
            f"{float(row['coverage_theta']):.1%}",
        ]
        for row in found
    ]
    text = f"""Bias, root mean square error and coverage of 95 % intervals over {n} simulations a row, of 50 items each
([IRT](irt.md)):

{table(head, rows)}

1PL has one discrimination a simulation, so that its coverage of a is known to {100 * (0.95 * 0.05 / n) ** 0.5:.0f} points (standard error) here.

One simulation of 800 learners with 25 answers each:

![Estimated against true difficulties and discriminations, and four item curves beside the true ones](irt-recovery.svg)"""
    return text, versions("Matrix")


def forecast(arguments: argparse.Namespace) -> tuple[str, str]:
    """False alarms, planted anomalies and coverage by length of the series."""
    n = arguments.series
    found = read(r("r-forecast-plumber/grid.R", str(n)))
    sizes = sorted({int(row["off"]) for row in found} - {0})
    rows = []
    for weeks in sorted({int(row["n_weeks"]) for row in found}):
        here = {int(row["off"]): {k: int(v) for k, v in row.items()} for row in found if int(row["n_weeks"]) == weeks}
        alarms, ordinary = (sum(row[name] for row in here.values()) for name in ("false_alarms", "ordinary"))
        rows.append(
            [
                f"{weeks}",
                f"{alarms} of {ordinary:,} ({alarms / ordinary:.2%})",
                *(f"{here[size]['found'] / here[size]['planted']:.0%}" for size in sizes),
                f"{here[0]['covered'] / here[0]['ahead']:.0%}",
            ]
        )
    head = ["weeks", "false alarms", *(f"found, {size} sd off" for size in sizes), "next week in its 80 % interval"]
    text = f"""{n} series a cell, a line with normal noise, through Prophet and all that is around it
([forecast](forecast.md)). The stated rate of false alarms is {2 * norm.sf(2.5):.2%}; they are counted
beside planted weeks, too.

{table(head, rows)}"""
    return text, versions("prophet")


def survival(arguments: argparse.Namespace) -> tuple[str, str]:
    """S on later weeks of three courses of OULAD; the table stands in survival.md too."""
    rows, rejected = held_out.measure(DOCS / "survival-later-weeks.svg")
    text = "\n".join(
        [
            "S as published inside three courses of OULAD, and who then came back ([survival](survival.md)):\n",
            table(held_out.HEAD, rows),
            *(f"\nRejected: {sentence}" for sentence in rejected),
            "\n![Share of learners who came back in time, by predicted S](survival-later-weeks.svg)",
        ]
    )
    return text, versions("survival")


CAMPAIGNS: dict[str, Callable[[argparse.Namespace], tuple[str, str]]] = {
    "growth": growth,
    "irt": irt,
    "forecast": forecast,
    "survival": survival,
}


def write(name: str, section: str) -> None:
    """Put a campaign's section in its place of the page; the others stay."""
    old = PAGE.read_text() if PAGE.exists() else ""
    sections = dict(part.split("\n", 1) for part in old.split("\n## ")[1:]) | {name: section}
    known = [other for other in CAMPAIGNS if other in sections]
    PAGE.write_text(INTRODUCTION + "".join(f"\n## {title}\n\n{sections[title].strip()}\n" for title in known))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/validate.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "campaigns", nargs="*", metavar="campaign", help=f"of {', '.join(CAMPAIGNS)}; all where none is named"
    )
    parser.add_argument("--fits", type=int, default=10_000, help="of growth")
    parser.add_argument("--series", type=int, default=100, help="of forecast, a cell")
    parser.add_argument("--replications", type=int, default=50, help="of irt, a cell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    arguments = parser.parse_args()
    unknown = set(arguments.campaigns) - CAMPAIGNS.keys()
    if unknown:
        parser.error(f"no campaign {', '.join(sorted(unknown))}")
    for name in arguments.campaigns or CAMPAIGNS:
        begun = datetime.now(UTC)
        text, used = CAMPAIGNS[name](arguments)
        taken = (datetime.now(UTC) - begun).total_seconds() / 60
        amount = {"growth": "fits", "irt": "replications", "forecast": "series"}.get(name)
        command = f"python tests/validate.py {name}" + (f" --{amount} {getattr(arguments, amount)}" if amount else "")
        write(name, f"{text}\n\nBy `{command}`, {begun:%d %B %Y}, {platform.machine()}, {used}.")
        sys.stderr.write(f"{name}: {taken:.1f} minutes\n")


if __name__ == "__main__":
    main()
