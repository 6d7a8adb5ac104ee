"""`python -m tests.conformance.compare`: run the suite against pypmi, ipmi_sim and pyghmi's server; print the tables.

A server that a case has broken is started anew, and told so in the table. With `--write PAGE` the tables are put
between the page's marks instead.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # stack.py

from .bmc import Bmc
from .case import Case, Result, Verdict, run_case
from .fleet import Fleet
from .report import by_rule, summary
from .rivals import FakeBmc, IpmiSim, Rival
from .suite import all_cases

MARKS = ("<!-- conformance: made by `make conformance` -->", "<!-- end of conformance -->")


def run(pick: Callable[[Case], Bmc], broken: Callable[[Bmc], None]) -> list[Result]:
    """Run every case that applies on the BMC that is picked for it; `broken` is called after each failure."""
    results = []
    for case in all_cases():
        if case.slow:
            continue
        bmc = pick(case)
        result = run_case(case, bmc)
        results.append(result)
        if result.verdict is Verdict.FAILED:
            print(f"{case.name}: {result.reason[:100]}", file=sys.stderr, flush=True)
            broken(bmc)
    return results


def of_rival(rival: Rival) -> list[Result]:
    """What another server passes."""
    direct, bridged = rival.bmc(bridged=False), rival.bmc(bridged=True)
    try:
        rival.start()
        return run(lambda case: bridged if "bridging" in case.needs else direct, lambda _: rival.start() and None)
    finally:
        rival.stop()


def of_pypmi(folder: Path) -> list[Result]:
    """What pypmi passes: bridged where a case is about that, else at the own port of the first node that has it."""
    fleet = Fleet(folder)
    try:
        bmcs = {way: fleet.bmc(way) for way in ("bridged", "direct", "instruments", "kg")}

        def pick(case: Case) -> Bmc:
            ways = ("bridged",) if "bridging" in case.needs else ("direct", "instruments", "kg")
            return next((bmcs[way] for way in ways if case.applies(bmcs[way])), bmcs[ways[0]])

        return run(pick, lambda _: None)
    finally:
        fleet.stop()


def main() -> int:
    """Run all; exit status 1 when pypmi fails a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conformance-") as name, ThreadPoolExecutor(3) as pool:
        folder = Path(name)
        (folder / "pypmi").mkdir()
        jobs = {"pypmi": pool.submit(of_pypmi, folder / "pypmi")}
        for rival in (IpmiSim(folder / "ipmi_sim"), FakeBmc(folder / "fakebmc")):
            jobs[rival.name] = pool.submit(of_rival, rival)
        columns = {server: job.result() for server, job in jobs.items()}
    text = f"{summary(columns)}\n\n{by_rule(columns)}\n"
    if arguments.write is None:
        print(text)
    else:
        page = arguments.write.read_text()
        pattern = re.compile(f"({re.escape(MARKS[0])}\n).*?(?={re.escape(MARKS[1])})", re.DOTALL)
        arguments.write.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n", page))
    return int(any(result.verdict is Verdict.FAILED for result in columns["pypmi"]))


if __name__ == "__main__":
    sys.exit(main())
