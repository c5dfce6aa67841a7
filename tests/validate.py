"""The long campaigns: more simulations than continuous integration has time for.

    python tests/validate.py [--fits 10000] [--lines 1000] [--series 100] [campaign ...]

Each campaign draws its picture beside the models' pages and rewrites its own section of docs/models/validation.md with
date, versions and command. Long ones are kept in pieces under .cache/validate, so that a campaign that was stopped goes
on where it was; a piece says when and by which sources and versions it was made, and is made again where those differ.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import activity
import held_out
import held_out_scores
import numpy as np
import planted
import psycopg
import sklearn
from numpy.typing import NDArray
from ranks import chi_square, ecdf
from scipy.stats import norm
from seed_analytics import migrations
from seed_analytics.local import Postgres, RService
from seed_analytics.platform_tables import create_platform_tables
from support import ROOT, SERVICES, Database, run_with

DOCS = ROOT / "docs" / "models"
PAGE = DOCS / "validation.md"
KEPT = ROOT / ".cache" / "validate"
FITS = 500  # of growth, a piece
RANKS = 200  # values that a rank takes, of fits as long as the stage's
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


def made(used: str, days: Iterable[date] = ()) -> str:
    """When, where and with which versions numbers were made: today, or on the days of their pieces."""
    days = sorted(days) or [datetime.now(UTC).date()]
    shown = " to ".join(f"{day:%d %B %Y}" for day in dict.fromkeys((days[0], days[-1])))
    return f"{shown}, {platform.machine()}, {used}"


def pieces(
    commands: dict[str, Sequence[str | Path]], sources: Iterable[Path], used: str, jobs: int
) -> tuple[Table, str]:
    """Return the rows that R scripts print, by the name of the piece, and when and with what they were made.

    The first line of a piece's file has its day, versions and sources; where those are today's, it is not made again.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()
    stamp = f"{platform.machine()}, {used}, sources {digest[:16]}"

    def piece(name: str) -> tuple[Table, date]:
        file = KEPT / f"{name}.csv"
        head, _, text = file.read_text().partition("\n") if file.exists() else ("", "", "")
        day, _, by = head.removeprefix("# ").partition(", ")
        if by != stamp:
            text = r(*commands[name])
            day = f"{datetime.now(UTC):%Y-%m-%d}"
            file.write_text(f"# {day}, {stamp}\n{text}")
        return read(text), date.fromisoformat(day)

    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(piece, commands))
    return [row for rows, _ in found for row in rows], made(used, (day for _, day in found))


def growth(arguments: argparse.Namespace) -> tuple[str, str]:
    """Simulation-based calibration of the growth model, in pieces of 500 fits with the seeds 1, 2, ..."""
    service = ROOT / "r-brms-plumber"
    sources = [service / "sbc.R", *(service / "R").glob("*.R"), *(service / "stan").glob("*.stan")]
    commands = {
        f"sbc-{FITS}-{seed}": [service / "sbc.R", str(FITS), str(seed)] for seed in range(1, arguments.fits // FITS + 1)
    }
    rows, how = pieces(commands, sources, versions("rstan", "posterior"), arguments.jobs)
    ranks: dict[str, NDArray[np.float64]] = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    names = [name for name in ranks if name not in ("max_rhat", "min_ess", "divergent")]
    with (KEPT / "sbc.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    r("-e", DRAW_RANKS, KEPT / "sbc.csv", DOCS / "growth-sbc-long.svg")
    text = f"""Ranks of the truth in {len(rows):,} fits (25 learners, 8 weeks, 30 % missing; truth from the priors) must be
uniform ([growth](growth.md)). P values of χ² with 20 bins and of simultaneous ECDF bands:

{table(["", *names], [["χ²", *(f"{chi_square(ranks[n], RANKS):.2f}" for n in names)], ["ECDF", *(f"{ecdf(ranks[n], RANKS):.2f}" for n in names)]])}

R-hat at most 1.01 in {np.mean(ranks["max_rhat"] <= 1.01):.2%} of the fits, ESS at least 400 in
{np.mean(ranks["min_ess"] >= 400):.2%}, {int(ranks["divergent"].sum())} divergent transitions in all.

![ECDF of the ranks less the uniform, for six parameters and P](growth-sbc-long.svg)"""
    return text, how


def recovery(replications: int, models: str, *picture: Path) -> str:
    """Table of the recovery of items by sample size."""
    found = read(r("r-irt-plumber/recovery.R", str(replications), "1", models, *picture))
    head = ["model", "sd of log a", "learners", "answers a learner", "answers an item", "fitted"]
    head += [f"{what} of {name}" for name in "ab" for what in ("bias", "RMSE", "coverage")] + ["coverage of theta"]
    rows = [
        [
            *(row[name] for name in ("model", "sd_log_a", "n_users", "n_each", "answers_an_item")),
            f"{float(row['fitted']):.1%}",
            *(
                f"{float(row[f'{what}_{name}']):.1%}" if what == "coverage" else f"{float(row[f'{what}_{name}']):.3f}"
                for name in "ab"
                for what in ("bias", "rmse", "coverage")
            ),
            f"{float(row['coverage_theta']):.1%}",
        ]
        for row in found
    ]
    return f"""Bias, root mean square error and coverage of 95 % intervals over {replications} simulations a row, of 50 items each
([IRT](irt.md)):

{table(head, rows)}"""


def irt(arguments: argparse.Namespace) -> tuple[str, str]:
    """Recovery of items by maximum likelihood."""
    n = arguments.replications
    text = f"""{recovery(n, "2PL,1PL", DOCS / "irt-recovery.svg")}

1PL has one discrimination a simulation, so that its coverage of a is known to {100 * (0.95 * 0.05 / n) ** 0.5:.0f} points (standard error) here.

One simulation of 800 learners with 25 answers each:

![Estimated against true difficulties and discriminations, and four item curves beside the true ones](irt-recovery.svg)"""
    return text, made(versions("Matrix"))


NOISES = {
    "independent": "independent",
    "two_against_two": "as in `I_t`",
    "four_week_mean": "as in 28-day KPIs",
    "ar1": "AR(1), .5",
    "random_walk": "random walk",
}
LENGTHS = (8, 12, 26, 52, 104)
OFFS = (5, 8, 12, 20)
COVERED = ("covered_80", "covered_published")


def share(hits: Sequence[float], of: Sequence[float], digits: int) -> str:
    """Share of a total, with its standard error where what is counted comes in series: a ratio estimate."""
    ratio = sum(hits) / sum(of)
    error = np.sqrt(np.sum((np.array(hits) - ratio * np.array(of)) ** 2)) / sum(of)
    return f"{100 * ratio:.{digits}f} ± {100 * error:.{digits}f} %"


def by_noise(rows: Table) -> str:
    """False alarms and coverage, a row for each noise and length."""
    lines = []
    for noise, words in NOISES.items():
        for weeks in LENGTHS:
            here = [row for row in rows if (row["noise"], int(row["n_weeks"])) == (noise, weeks)]
            if not here:
                continue
            column = {name: [float(row[name]) for row in here] for name in ("alarms", "ordinary", *COVERED)}
            trend = np.mean([row["engine"] == "prophet" for row in here])
            lines.append(
                [
                    *(words, f"{weeks}", f"{len(here):,}", f"{trend:.0%}"),
                    share(column["alarms"], column["ordinary"], 2),
                    *(share(column[name], [4] * len(here), 1) for name in COVERED),
                ]
            )
    head = ["noise", "weeks", "series", "not by last value", "false alarms", "four weeks inside 80 %", "inside 98.8 %"]
    return table(head, lines)


def planted_weeks(rows: Table) -> str:
    """Share of planted weeks that are found, a row for each length."""
    lines = []
    for weeks in LENGTHS:
        here = [row for row in rows if row["found"] != "NA" and int(row["n_weeks"]) == weeks]
        found = [[row["found"] == "TRUE" for row in here if int(row["off"]) == off] for off in OFFS]
        if here:
            lines.append([f"{weeks}", *(f"{np.mean(hits):.0%} of {len(hits)}" if hits else "" for hits in found)])
    return table(["weeks", *(f"{off} sd off" for off in OFFS)], lines)


def grid(engine: str, lengths: tuple[int, ...], offs: tuple[int, ...], series: int, jobs: int) -> tuple[Table, str]:
    """The rows of grid.R, and when and with what they were made."""
    service = ROOT / "r-forecast-plumber"
    cells = [
        (engine, noise, weeks, off)
        for weeks in lengths
        for noise in NOISES
        for off in ((0, *offs) if noise == "independent" else (0,))
    ]
    size = min(series, 1000 if engine == "line" else 10)
    commands = {
        "grid-" + "-".join(map(str, (*cell, size, turn))): [
            service / "grid.R",
            *map(str, (*cell, size, 1000 * turn + place)),
        ]
        for turn in range(1, series // size + 1)
        for place, cell in enumerate(cells)
    }
    sources = [service / "grid.R", service / "R" / "prophet.R"]
    return pieces(commands, sources, versions("prophet"), jobs)


def irt_prior(arguments: argparse.Namespace) -> tuple[str, str]:
    """Recovery of items by what the stage fits unless told otherwise: the 2PL with its default prior."""
    text = f"""What the stage fits unless told otherwise: the 2PL with log a ~ N(0, .5²) before. First the simulations of
[the section above](#irt), whose items differ less than that, then items as the prior says.

{recovery(arguments.replications, "2PL+prior")}"""
    return text, made(versions("Matrix"))


def forecast(arguments: argparse.Namespace) -> tuple[str, str]:
    """False alarms, planted anomalies and coverage, by noise and length, with a straight line in Prophet's place."""
    rows, how = grid("line", LENGTHS, OFFS, arguments.lines, arguments.jobs)
    draw_grid(rows, DOCS / "forecast-noise.svg")
    text = f"""A line with noise around it, through all of `fit_prophet` ([forecast](forecast.md)), but with a straight line by least
squares in Prophet's place, which is a hundred times as fast. Shares are ± one standard error, over series, since the
weeks of one series have much in common. {2 * norm.sf(2.5):.2%} of ordinary weeks are meant to be called anomalies;
they are counted beside planted weeks, too. I_t compares two weeks with the two before, other KPIs look back 28 days:
what chance adds to one week is in its neighbours.

{by_noise(rows)}

Planted weeks that are found, in independent noise:

{planted_weeks(rows)}

![Share of ordinary weeks called anomalies, and of later weeks inside the 80 % interval, by length and noise](forecast-noise.svg)"""
    return text, how


def forecast_prophet(arguments: argparse.Namespace) -> tuple[str, str]:
    """The same through Prophet itself: with 8 weeks the last value is all that is used."""
    rows, how = grid("prophet", LENGTHS[1:], (5, 8, 12), arguments.series, arguments.jobs)
    text = f"""As above, through Prophet itself.

{by_noise(rows)}

{planted_weeks(rows)}"""
    return text, how


def draw_grid(rows: Table, file: Path) -> None:
    """Draw false alarms and coverage against the length of the series, a line for each noise."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "grid", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(10, 4.3), layout="constrained")
        alarms, inside = figure.subplots(1, 2)
        alarms.axhline(200 * norm.sf(2.5), color="0.6", linestyle="--", linewidth=1, label="as stated")
        inside.axhline(80, color="0.6", linestyle="--", linewidth=1)
        colors = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
        for (noise, words), color, marker in zip(NOISES.items(), colors, "os^Dv", strict=True):
            look = {"color": color, "marker": marker, "label": words.replace("`", "")}
            shares = []
            for weeks in LENGTHS:
                here = [row for row in rows if (row["noise"], int(row["n_weeks"])) == (noise, weeks)]
                total = {name: sum(float(row[name]) for row in here) for name in ("alarms", "ordinary", "covered_80")}
                shares.append((total["alarms"] / total["ordinary"], total["covered_80"] / 4 / len(here)))
            alarms.plot(LENGTHS, [100 * share for share, _ in shares], **look)
            inside.plot(LENGTHS, [100 * share for _, share in shares], **look)
        alarms.set(ylabel="% of ordinary weeks", title="Called an anomaly", ylim=(0, 2))
        inside.set(ylabel="% of the next four weeks", title="Inside their 80 % interval", ylim=(50, 100))
        for axes in (alarms, inside):
            axes.set(xscale="log", xlabel="weeks in the series")
            axes.set_xticks(LENGTHS, [str(weeks) for weeks in LENGTHS], minor=False)
            axes.minorticks_off()
        figure.legend(*alarms.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def forecast_oulad(_: argparse.Namespace) -> tuple[str, str]:
    """Weekly active learners of three courses of OULAD, forecast by rolling origin."""
    rows = activity.measure(DOCS / "forecast-oulad.svg")
    text = f"""Weekly active learners of courses of OULAD ([forecast](forecast.md)), forecast every {activity.STRIDE} weeks from week {activity.FIRST} of the
course on; the errors are those of the next four weeks, in learners. A ratio below 1 is better than repeating the past.

{table(activity.HEAD, rows)}

![Active learners a week of four series, with what was forecast of them](forecast-oulad.svg)"""
    return text, made(versions("prophet"))


def segments(arguments: argparse.Namespace) -> tuple[str, str]:
    """Planted groups found again, by their distance and the number of learners."""
    rows = planted.measure(arguments.simulations, DOCS / "segments-planted.svg")
    text = f"""Four groups of equal size in six features, normal and round, k by silhouette ([segments](segments.md)). With groups
0 sd apart there is no structure to find. "Drawn anew" is the recorded `redrawn_rand_index`.

{table(planted.HEAD, rows)}

![Agreement with the planted groups, and how often their number is found, by their distance](segments-planted.svg)"""
    return text, made(f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}, numpy {np.__version__}")


def survival(arguments: argparse.Namespace) -> tuple[str, str]:
    """S on later weeks of three courses of OULAD; the table stands in survival.md too."""
    rows, rejected = held_out.measure(DOCS / "survival-later-weeks.svg")
    text = "\n".join(
        [
            "S as published inside three courses of OULAD, and who then came back ([survival](survival.md)). "
            "Intervals: 500 bootstrap samples of learners.\n",
            table(held_out.HEAD, rows),
            *(f"\nRejected: {sentence}" for sentence in rejected),
            "\n![Share of learners who came back in time, by predicted S](survival-later-weeks.svg)",
        ]
    )
    return text, made(versions("survival"))


def growth_oulad(arguments: argparse.Namespace) -> tuple[str, str]:
    """Chances of growth beside the last assessment of every presentation of OULAD; the table stands in growth.md too."""
    with (
        Postgres() as postgres,
        RService("r-brms-plumber") as service,
        psycopg.connect(postgres.url(), autocommit=True) as conn,
    ):
        create_platform_tables(conn)
        migrations.migrate(postgres.url())
        database = Database(postgres.url(), conn)
        run = partial(run_with, dict.fromkeys(SERVICES.values(), service))
        found = {
            scale: {name: held_out_scores.judge(database, run, name, scale) for name in held_out_scores.deadlines()}
            for scale in held_out_scores.SCALES
        }
    pooled = {scale: held_out_scores.together(seen.values()) for scale, seen in found.items()}
    held_out_scores.draw(pooled, DOCS / "growth-later-scores.svg")
    tables = "\n\n".join(
        f"{held_out_scores.SCALES[scale].capitalize()} (`BRMS_SCORE_SCALE={scale}`):\n\n{scores_table(seen, pooled[scale])}"
        for scale, seen in found.items()
    )
    text = f"""Chances that the score of a presentation's last assessment is at least the mean of those before it, as the stage
`fit-bayesian-growth` publishes them from what was submitted up to halfway between the last two deadlines
([growth](growth.md)). Every presentation with three assessments before its last, by this one rule.

{tables}

![Share who reached the goal, by predicted P](growth-later-scores.svg)"""
    return text, made(versions("rstan"))


def scores_table(found: dict[str, held_out_scores.Chances], pooled: held_out_scores.Chances) -> str:
    """The table of the presentations, and in how many of them P does well."""
    rows = [seen.row(name) for name, seen in found.items()]
    slopes = [seen.slope() for seen in found.values()]
    beaten = [
        seen.brier(seen.chance) < min(seen.brier(seen.base_rate), seen.brier(seen.last)) for seen in found.values()
    ]
    return f"""{table(held_out_scores.HEAD, [*rows, pooled.row("all")])}

In {sum(beaten)} of {len(found)}, P is better than both simple forecasts; in {sum(0.8 < slope < 1.2 for slope in slopes)},
its slope is within .8 to 1.2."""


CAMPAIGNS: dict[str, Callable[[argparse.Namespace], tuple[str, str]]] = {
    "growth": growth,
    "irt": irt,
    "irt-prior": irt_prior,
    "segments": segments,
    "forecast": forecast,
    "forecast-prophet": forecast_prophet,
    "forecast-oulad": forecast_oulad,
    "survival": survival,
    "growth-oulad": growth_oulad,
}

AMOUNTS = {
    "growth": "fits",
    "irt": "replications",
    "irt-prior": "replications",
    "segments": "simulations",
    "forecast": "lines",
    "forecast-prophet": "series",
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
    parser.add_argument("--simulations", type=int, default=200, help="of segments, a cell")
    parser.add_argument("--lines", type=int, default=1000, help="series of forecast, a cell")
    parser.add_argument("--series", type=int, default=100, help="of forecast-prophet, a cell")
    parser.add_argument("--replications", type=int, default=50, help="of irt and irt-prior, a cell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    arguments = parser.parse_args()
    unknown = set(arguments.campaigns) - CAMPAIGNS.keys()
    if unknown:
        parser.error(f"no campaign {', '.join(sorted(unknown))}")
    for name in arguments.campaigns or CAMPAIGNS:
        begun = datetime.now(UTC)
        text, how = CAMPAIGNS[name](arguments)
        taken = (datetime.now(UTC) - begun).total_seconds() / 60
        amount = AMOUNTS.get(name)
        command = f"python tests/validate.py {name}" + (f" --{amount} {getattr(arguments, amount)}" if amount else "")
        write(name, f"{text}\n\nBy `{command}`, {how}.")
        sys.stderr.write(f"{name}: {taken:.1f} minutes\n")


if __name__ == "__main__":
    main()
