"""The conformance suite against a fleet of ours: bridged, on ports of nodes' own, and the gateway itself."""

import re
from collections.abc import Iterator

import pytest
from conformance.bmc import Bmc
from conformance.case import Case, Group, Verdict, run_case
from conformance.fleet import WAYS, Fleet, can_use_623
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
