"""What a case is, how cases are collected, and how one is run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rmcp_client import BadPacketError, NoAnswerError, RefusedError

from .bmc import Bmc


class Group(StrEnum):
    """Subjects, in the order of the report."""

    DISCOVERY = "discovery"
    SESSIONS = "sessions, security"
    CHASSIS = "chassis, boot"
    CONTROLLER = "management controller"
    REPOSITORIES = "SDR, SEL, FRU"
    BRIDGING = "bridging"
    SOL = "SOL"
    TOOLS = "tools"


class Verdict(StrEnum):
    """What came of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


Body = Callable[..., None]


@dataclass(frozen=True)
class Case:
    """One rule, checked."""

    group: Group
    name: str
    rule: str
    """For people: what is right."""
    body: Callable[[Bmc], None]
    needs: frozenset[str]
    """Capabilities that the BMC must declare; without them the case does not apply."""
    slow: bool
    """Takes a minute or more."""

    def applies(self, bmc: Bmc) -> bool:
        """Whether the BMC has declared all that the case needs."""
        return self.needs <= bmc.capabilities


@dataclass(frozen=True)
class Result:
    """What came of a case, and why."""

    case: Case
    verdict: Verdict
    reason: str
    seconds: float


CASES: list[Case] = []


def case(
    group: Group, *, needs: str = "", slow: bool = False, each: Mapping[str, Any] | None = None
) -> Callable[[Body], Body]:
    """Register a function as a case; with `each`, as one case for every item, which it gets as second argument.

    `needs` are capability words. The rule is the first line of the docstring.
    """

    def register(function: Body) -> Body:
        subject = function.__module__.rpartition(".")[2]
        rule = (function.__doc__ or "").strip().splitlines()[0]
        base = f"{subject}/{function.__name__}"
        words = frozenset(needs.split())
        if each is None:
            CASES.append(Case(group, base, rule, function, words, slow))
        else:
            for name, value in each.items():
                CASES.append(Case(group, f"{base}[{name}]", rule, _bind(function, value), words, slow))
        return function

    return register


def _bind(function: Body, value: Any) -> Callable[[Bmc], None]:
    def body(bmc: Bmc) -> None:
        function(bmc, value)

    return body


def run_case(case: Case, bmc: Bmc) -> Result:
    """Run one case. Whatever goes wrong in it is the BMC's failure."""
    if not case.applies(bmc):
        return Result(case, Verdict.NOT_APPLICABLE, "", 0.0)
    started = time.monotonic()
    try:
        case.body(bmc)
    except NoAnswerError:
        verdict, reason = Verdict.FAILED, "no answer"
    except (AssertionError, BadPacketError, RefusedError) as error:
        verdict, reason = Verdict.FAILED, str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    except Exception as error:  # noqa: BLE001 - an answer that breaks the test client is a failure too
        verdict, reason = Verdict.FAILED, repr(error)
    else:
        verdict, reason = Verdict.PASSED, ""
    finally:
        bmc.release()
    return Result(case, verdict, reason, time.monotonic() - started)
