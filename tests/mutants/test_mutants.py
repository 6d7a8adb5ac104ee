"""Every safety rule is held by a test: taking it out makes one fail."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rules import MUTANTS, Mutant
from run import broken, try_mutant

NEEDED = ("journal", "dedupe", "retained", "late", "one at a time", "stuck", "privilege", "replay", "login", "session")
"""Kinds of rules; none may be without a mutant."""
RULES = [mutant.rule for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=RULES)
def test_the_rule_is_where_the_mutant_says(mutant: Mutant) -> None:
    compile(broken(mutant), mutant.file, "exec")


def test_every_kind_of_rule_has_a_mutant() -> None:
    assert {rule.partition(":")[0] for rule in RULES} == set(NEEDED)


QUICK = [mutant for mutant in MUTANTS if mutant.rule.startswith(("replay: each", "privilege: of the command inside"))]


@pytest.mark.parametrize("mutant", QUICK, ids=[mutant.rule for mutant in QUICK])
def test_a_rule_that_is_taken_out_is_missed(mutant: Mutant) -> None:
    """Two of them, so that the machinery of `make mutants` stays right."""
    verdict = try_mutant(mutant)
    assert verdict.as_expected, verdict.words


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS, ids=RULES)
def test_every_rule_that_is_taken_out_is_missed(mutant: Mutant) -> None:
    verdict = try_mutant(mutant)
    assert verdict.as_expected, verdict.words
