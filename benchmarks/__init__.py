"""Speed and memory as ratios to a peer that is measured in the same run: ``python -m benchmarks [NAME ...]``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # containers and requests of the tests
