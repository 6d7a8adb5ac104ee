"""Runs the whole fault suite and writes what came of it into docs/reliability.md.

python tests/faults/table.py [--rounds N] [pytest's own arguments, such as -n 2]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tests"))
from scenarios import PHASES, all_faults  # noqa: E402 - it needs tests/stack.py

PAGE = ROOT / "docs" / "reliability.md"
_PART = re.compile(r"(<!-- table of make faults -->\n).*?(<!-- end of the table -->)", re.DOTALL)


@dataclass(frozen=True)
class Run:
    """What came of one fault in one phase."""

    where: str
    what: str
    phase: str
    recovery: float
    presses_too_many: int
    stuck: int
    events_lost: int


def read(folder: Path) -> list[Run]:
    """All that the tests wrote."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [Run(**json.loads(line)) for line in lines]


def table(runs: list[Run]) -> str:
    """A row for each fault, with the recovery of each phase, and a summary before it."""
    by_fault: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_fault[run.where, run.what].append(run)
    recoveries = [run.recovery for run in runs]
    head = ["where", "fault", *PHASES, "median", "max", "too many", "stuck", "lost"]
    rows = [f"| {' | '.join(head)} |", "|---|---" + "|--:" * (len(head) - 2) + "|"]
    for (where, what), of_fault in by_fault.items():
        cells = []
        for phase in PHASES:
            seconds = [run.recovery for run in of_fault if run.phase == phase]
            cells.append(_span(seconds) if seconds else "")
        seconds = [run.recovery for run in of_fault]
        cells += [f"{median(seconds):.1f}", f"{max(seconds):.1f}"]
        cells += [str(sum(getattr(run, name) for run in of_fault)) for name in _COUNTS]
        rows.append(f"| {where} | {what} | {' | '.join(cells)} |")
    counts = [sum(getattr(run, name) for run in runs) for name in _COUNTS]
    summary = (
        f"{len(runs)} runs of {len(by_fault)} faults in {len(PHASES)} phases, {datetime.now(UTC):%Y-%m-%d}:"
        f" recovery {median(recoveries):.1f} s in the median, {max(recoveries):.1f} s at the most;"
        f" presses too many {counts[0]}, relays stuck {counts[1]}, events lost {counts[2]}."
    )
    return summary + "\n\n" + "\n".join(rows) + "\n"


_COUNTS = ("presses_too_many", "stuck", "events_lost")


def _span(seconds: list[float]) -> str:
    low, high = f"{median(seconds):.1f}", f"{max(seconds):.1f}"
    return low if low == high else f"{low}–{high}"


def main() -> int:
    """Run all rounds; the table is written whether they pass or not, so that it never looks better than the product."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="each strikes at other moments")
    parser.add_argument("--from", dest="folder", type=Path, help="make the table of these results, run nothing")
    arguments, rest = parser.parse_known_args()
    status = 0
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        for number in range(0 if arguments.folder else arguments.rounds):
            environment = {**os.environ, "PYPMI_FAULTS_RESULTS": name, "PYPMI_FAULTS_ROUND": str(number)}
            command = [sys.executable, "-m", "pytest", "tests/faults/test_faults.py", *rest]
            status |= subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        runs = read(folder)
    if len({(run.where, run.what, run.phase) for run in runs}) < len(all_faults()) * len(PHASES):
        print(table(runs) if runs else "nothing was run")
        print("not all faults in all phases were tried: docs/reliability.md stays as it is")
    else:
        page, found = _PART.subn(lambda match: match[1] + table(runs) + match[2], PAGE.read_text(encoding="utf-8"))
        if found != 1:
            raise SystemExit(f"{PAGE} has no place for the table")
        PAGE.write_text(page, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
