"""Fuzz all targets, two at a time, and keep what brought new coverage.

    python -m fuzz [--seconds 60] [--jobs 2] [--coverage] [TARGET ...]

Findings are left in .fuzz/TARGET/: add the input to fuzz/corpus/TARGET.hex, and it stays tested for ever.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.corpus import read, smallest, write
from fuzz.seeds import ROOT, seeds
from fuzz.targets import PARSERS, TARGETS

WORK = ROOT / ".fuzz"
_LONGEST = 4096
_SLOW = 10
"""Seconds for one input, after which it counts as a hang."""


def _one() -> tuple[str, ...]:
    return sys.executable, str(Path(__file__).with_name("one.py"))


def _environment(target: str) -> dict[str, str]:
    return {**os.environ, "FUZZ_TARGET": target}


def fuzz(target: str, seconds: int) -> bool:
    """Fuzz one target; tells whether nothing was found."""
    work = WORK / target
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    for source in (*seeds(target), *read(target)):
        (work / "corpus" / hashlib.sha1(source, usedforsecurity=False).hexdigest()).write_bytes(source)
    command = [
        *_one(), f"-max_total_time={seconds}", f"-max_len={_LONGEST}",
        f"-timeout={_SLOW}", "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={work}/",
        str(work / "corpus"),
    ]  # fmt: skip
    with (work / "log").open("w") as log:
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(target), stdout=log, stderr=subprocess.STDOUT, check=False
        )
    text = (work / "log").read_text(errors="replace")
    executed = [line for line in text.splitlines() if "number_of_executed_units" in line]
    count = executed[-1].split()[-1] if executed else "?"
    print(
        f"{target}: {count} inputs in {seconds} s, {'no finding' if done.returncode == 0 else 'FOUND ONE, see .fuzz'}"
    )
    if done.returncode:
        print(text[-3000:])
    return done.returncode == 0


def keep(target: str) -> None:
    """Take what was learned into fuzz/corpus, and nothing that brings no coverage."""
    learned = [file.read_bytes() for file in (WORK / target / "corpus").iterdir()]
    write(target, smallest(target, [*read(target), *learned]))


def show_coverage() -> float:
    """Replay the corpus and say how much of the parsers it covers, in percent."""
    environment = {**os.environ, "COVERAGE_FILE": str(WORK / "coverage")}
    WORK.mkdir(exist_ok=True)
    include = ",".join(f"*/{name}*" if name.endswith("/") else f"*/{name}" for name in PARSERS)
    coverage = [sys.executable, "-m", "coverage"]
    replay = [*coverage, "run", f"--include={include}", "-m", "fuzz.replay"]
    subprocess.run(replay, cwd=ROOT, env=environment, check=True)
    subprocess.run([*coverage, "report", "--show-missing"], cwd=ROOT, env=environment, check=True)
    total = subprocess.run(
        [*coverage, "report", "--format=total", "--precision=1"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(total.stdout)


def main() -> int:
    """See above; status 1 when something was found, 2 when the corpus covers less than 95 % of the parsers."""
    parser = argparse.ArgumentParser(description="Fuzz every parser.")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="all when none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="at one time")
    parser.add_argument("--keep", action="store_true", help="take what was learned into fuzz/corpus")
    parser.add_argument("--coverage", action="store_true", help="only say what the corpus covers")
    arguments = parser.parse_args()
    chosen = arguments.targets or list(TARGETS)
    if not arguments.coverage:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            well = list(pool.map(lambda target: fuzz(target, arguments.seconds), chosen))
        for target in chosen if arguments.keep else ():
            keep(target)
        if not all(well):
            return 1
    total = show_coverage()
    print(f"the corpus covers {total} % of the parsers")
    return 0 if total >= 95 else 2


if __name__ == "__main__":
    sys.exit(main())
