"""Run the benchmarks and print one table.

python -m benchmarks            all of them; minutes, most of it the brms peer
python -m benchmarks growth irt only these

Every row holds what was measured, its bound or peer, and the ratio; what is beyond its bound has a ! and makes the exit
code 1. Times are the median of several runs in turn with the peer, since machines are noisy; memory is the resident set
as the kernel counts it. The first set-up of a bare
machine is not among them: it can be measured once a machine, and `tools/setup` says how long each of its parts took.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import platform
import sys
import traceback
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks._measure import Row

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_"))


def rows_of(name: str) -> Iterator[Row]:
    """Run one benchmark. What it has measured before it fails is kept, and the others still run."""
    try:
        yield from importlib.import_module(f"benchmarks.{name}").rows()
    except Exception:
        traceback.print_exc()
        yield Row("failed, see above", "", "", "", well=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(NAMES)}; default: all")
    names = parser.parse_args().names or NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    table = Table(
        "Benchmark",
        "What",
        "Measured",
        "Peer or bound",
        "Ratio",
        title=f"{platform.machine()}, {sys.version.split()[0]}",
    )
    well = True
    for name in names:
        print(f"running {name} ...", file=sys.stderr)
        for row in rows_of(name):
            print(f"  {row.what.strip()}: {row.measured}", file=sys.stderr)
            table.add_row(name, row.what, row.measured, row.against, row.ratio if row.well else f"{row.ratio} !")
            well &= row.well
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0 if well else 1


sys.exit(main())
