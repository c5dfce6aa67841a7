"""Write the settings table of README.md from the settings classes.

python tools/readme_settings.py            write
python tools/readme_settings.py --check    exit 1 where the table is not as it would be written
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from seed_analytics.cli import settings_table

README = Path(__file__).resolve().parent.parent / "README.md"
TABLE = re.compile(r"(<!-- settings: [^\n]* -->\n).*?(<!-- /settings -->)", re.DOTALL)


def main() -> int:
    """Write the table, or compare it."""
    before = README.read_text(encoding="utf-8")
    after = TABLE.sub(lambda found: f"{found[1]}\n{settings_table()}\n\n{found[2]}", before)
    if "--check" in sys.argv[1:]:
        if before != after:
            print("README.md: the settings table is not what the settings say; run `make docs`")
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
