"""The one look that moves hardware, and only when its operator has asked for it: does the machine follow its button?"""

from pypmi.contract import ErrorCode, PowerAction, PowerState

from pypmi_cli.commands.waiting import wait_until
from pypmi_cli.doctor.findings import Link, Report
from pypmi_cli.sending import Verdict, send_power
from pypmi_cli.session import Session

PATIENCE = 180.0
"""Seconds for the machine to follow; its agent gives up earlier."""


def why_not(session: Session, node_id: str) -> str | None:
    """Why a press would tell nothing, or do harm; None when it may be tried."""
    view = session.view.node(node_id)
    if not view.available or view.state is None:
        return "it can't be worked now; mend that first"
    if view.state.power is PowerState.ON:
        return "it is on: pressing the button would shut it down. Try it when it is off"
    if view.state.action is not None:
        return f"{view.state.action} is under way"
    return None


def _has_fault(session: Session, node_id: str) -> bool:
    state = session.view.node(node_id).state
    return state is not None and state.fault is not None


async def examine_press(report: Report, session: Session, node_id: str) -> None:
    """Press the power button of a machine that is off, and see whether its status input says on."""
    outcome = await send_power(session, node_id, PowerAction.ON, wait=True, timeout=PATIENCE)
    if outcome.verdict is Verdict.COMPLETED:
        text = f"{node_id} followed a press of its button in {outcome.seconds:.1f} s, and is {outcome.power} now"
        report.ok(Link.STATUS, text, node_id)
    elif outcome.code == ErrorCode.NOT_CONFIRMED:
        await wait_until(lambda: _has_fault(session, node_id))  # then the look at its state names it
    else:
        report.fault(
            Link.STATUS, "press-failed", f"{node_id}: {outcome.text()}", "see docs/troubleshooting.md", node_id
        )  # fmt: skip
