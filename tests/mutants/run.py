"""Runs the mutants: each in a copy of the tree of its own, never in the tree itself.

python tests/mutants/run.py [WORD ...]    only rules that contain one of the words
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rules import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
_COPIED = ("shared", "services", "cli", "tests", "docs", "deploy", "pyproject.toml")
_TIMEOUT = 600
_TESTS_FAILED = 1
"""pytest's exit status; anything above means that it could not run them."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `as_expected` when a test failed, or, of the healthy tree, none did."""

    as_expected: bool
    words: str


def broken(mutant: Mutant, root: Path = ROOT) -> str:
    """The mutated source. Raises `LookupError` when the rule is not where the mutant says."""
    source = (root / mutant.file).read_text()
    if source.count(mutant.text) != 1:
        raise LookupError(
            f"{mutant.rule}: found {source.count(mutant.text)} times in {mutant.file}, must be once:"
            f" the rule's code has moved; change tests/mutants/rules.py with it\n{mutant.text}"
        )
    return source.replace(mutant.text, mutant.instead)


def copy_tree(folder: Path) -> None:
    """Copy what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "*.pyc")
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(source, folder / name)


def run_tests(folder: Path, tests: tuple[str, ...], scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run tests with the packages of that folder instead of the installed ones."""
    sources = [str(path) for pattern in ("shared/src", "services/*/src", "cli/src") for path in folder.glob(pattern)]
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not nightly and not e2e",
        "--basetemp", str(scratch), *tests,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )


def try_mutant(mutant: Mutant) -> Verdict:
    """Break one rule and run its tests."""
    source = broken(mutant)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name) / "tree"
        folder.mkdir()
        copy_tree(folder)
        (folder / mutant.file).write_text(source)
        try:
            done = run_tests(folder, mutant.tests, Path(name) / "scratch")
        except subprocess.TimeoutExpired:
            return Verdict(False, f"the tests did not end within {_TIMEOUT} s")
        if done.returncode > _TESTS_FAILED:
            return Verdict(False, f"the tests could not be run:\n{(done.stdout + done.stderr)[-2000:]}")
        if done.returncode == 0:
            return Verdict(False, "no test has noticed")
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return Verdict(True, failed[0].split(" - ")[0] if failed else "")


def try_healthy(tests: tuple[str, ...]) -> Verdict:
    """The tests of all mutants pass on the tree as it is: else they would prove nothing."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name) / "tree"
        folder.mkdir()
        copy_tree(folder)
        done = run_tests(folder, tests, Path(name) / "scratch")
        return Verdict(done.returncode == 0, done.stdout[-2000:])


def main(words: list[str]) -> int:
    """Try all, say what came of each; status 1 when a mutant lives."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.rule for word in words)]
    tests = tuple(sorted({test for mutant in chosen for test in mutant.tests}))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        healthy = pool.submit(try_healthy, tests)
        started = time.monotonic()
        verdicts = list(pool.map(try_mutant, chosen))
    if not healthy.result().as_expected:
        print(f"the tests fail on the tree as it is:\n{healthy.result().words}")
        return 2
    for mutant, verdict in zip(chosen, verdicts, strict=True):
        print(f"{'killed' if verdict.as_expected else 'LIVES '}  {mutant.rule}\n        {verdict.words}")
    alive = sum(not verdict.as_expected for verdict in verdicts)
    print(f"{len(chosen) - alive} of {len(chosen)} mutants killed, in {time.monotonic() - started:.0f} s")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
