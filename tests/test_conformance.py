"""The conformance suite against a fleet of ours: bridged, on ports of nodes' own, and the gateway itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.bmc import Bmc
from conformance.case import Case, Group, Result, Verdict, run_case
from conformance.fleet import WAYS, Fleet, can_use_623
from conformance.report import by_rule, rule_name, summary
from conformance.suite import all_cases
from stack import have

pytestmark = pytest.mark.skipif(
    not have("ipmitool", "bmc-info", "ipmiconsole", "mosquitto"), reason="needs ipmitool, FreeIPMI's tools, mosquitto"
)

SESSIONS_ARE_THE_SAME = {Group.DISCOVERY, Group.SESSIONS}
"""Groups that are about the listener and not about what is behind it; all listeners have one code, tried once."""
LOGIN = re.compile(r"^(handshake/login|discovery/(rmcpping|ipmiping|capabilities|guid))")


def applies(way: str, case: Case) -> bool:
    """Whether a case is run in this way of reaching a BMC."""
    words = WAYS[way] | ({"port623"} if way == "direct" and can_use_623() else set())
    if case.slow or not case.needs <= words:
        return False
    if way == "bridged":
        return True
    if way == "kg":
        return "kg" in case.needs or bool(LOGIN.match(case.name)) or "suite" in case.name
    if way == "instruments":
        return bool(case.needs & {"identify", "sensors", "watts"}) or case.group is Group.REPOSITORIES
    if way == "gateway":
        return case.group in {Group.CONTROLLER, Group.REPOSITORIES} or "shows" in case.name
    return case.group not in SESSIONS_ARE_THE_SAME or bool(LOGIN.match(case.name))


def cases() -> Iterator[object]:
    for way in WAYS:
        for case in all_cases():
            if applies(way, case):
                yield pytest.param(way, case, id=f"{way}-{case.name}")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    running = Fleet(tmp_path_factory.mktemp("conformance"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def bmcs(fleet: Fleet) -> dict[str, Bmc]:
    return {way: fleet.bmc(way) for way in WAYS}


@pytest.mark.parametrize(("way", "case"), tuple(cases()))
def test_case(bmcs: dict[str, Bmc], way: str, case: Case) -> None:
    result = run_case(case, bmcs[way])
    assert result.verdict is Verdict.PASSED, f"{case.rule} {result.reason}"


def test_there_are_enough_cases_of_each_group() -> None:
    assert len({case.name for case in all_cases()}) == len(all_cases())
    bridged = [case for case in all_cases() if applies("bridged", case)]
    assert len(bridged) > 600
    assert {case.group for case in bridged} == set(Group)


def test_report_counts_what_applied() -> None:
    first, second, third = all_cases()[:3]
    passed, failed, other = (
        Result(first, Verdict.PASSED, "", 0.1),
        Result(second, Verdict.FAILED, "no answer", 0.1),
        Result(third, Verdict.NOT_APPLICABLE, "", 0.0),
    )
    text = summary({"a": [passed, failed, other], "b": [failed, other, other]})
    assert "| discovery (3) | 1 of 2 | 0 of 1 |" in text
    assert "| all (3) | 1 of 2 | 0 of 1 |" in text
    assert "| bridging" not in text
    assert f"| `{rule_name(passed)}` {first.rule} | 1 of 2 | – |" in by_rule({"a": [passed, failed], "b": [other]})


def test_every_rule_stands_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/conformance.md").read_text()
    rules = {case.name.partition("[")[0] for case in all_cases() if not case.slow}
    missing = sorted(rule for rule in rules if f"`{rule}`" not in page)
    assert not missing, f"run make conformance: {missing}"
