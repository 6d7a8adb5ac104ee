"""What the broker shows of agents, nodes and consoles, and whether each agent answers."""

import asyncio
from collections import defaultdict

from pypmi.config.fleet import NodeSettings
from pypmi.contract import CONTRACT_VERSION, Capability, ErrorCode, PowerState, TopicKind, utc_now
from pypmi.view import NodeView

from pypmi_cli.doctor.findings import Link, Report, clock_differs
from pypmi_cli.doctor.probe import Overheard, ask
from pypmi_cli.session import Session

CLOCK_FAULT, CLOCK_WARNING = 5.0, 1.0
"""Seconds by which clocks may differ. Beyond the first agents refuse commands; those of a gateway live for 1.5 s."""
_TWIN_WATCH, _YOUNG = 4.0, 12.0
"""Seconds to look whether an agent that is younger than so many seconds is started again and again."""
_SHOWN = 12


async def examine_fleet(report: Report, session: Session, heard: Overheard, chosen: list[str]) -> None:
    """Look at each node's agent, availability, state and console, and have each agent answer once."""
    heard.stop_commands(session)
    settings = {node.id: node for node in session.access.loaded.fleet.nodes} if session.access.loaded else {}
    if not any(not view.empty for view in session.view.nodes.values()) and not session.view.services:
        await _nothing_seen(report, session, heard, chosen)
        return
    for node_id in chosen:
        topic = session.topics.node(node_id, TopicKind.POWER_SET)
        if topic not in heard.retained_commands:
            continue
        report.warn(
            Link.ACCESS, "retained-command", f"a command is kept (retained) at the broker on {topic}",
            f"mosquitto_pub -r -n -t {topic} removes it; whoever sends it must not set the retain flag", node_id,
        )  # fmt: skip
    usable: dict[str, list[str]] = defaultdict(list)
    for node_id in chosen:
        view = session.view.node(node_id)
        if _agent_there(report, session, view, settings.get(node_id)):
            assert view.info is not None  # noqa: S101 - `_agent_there` has looked; for the type checker
            usable[view.info.agent].append(node_id)
    for agent, nodes in usable.items():
        if not await _probe(report, session, heard, agent, nodes[0]):
            continue
        for node_id in nodes:
            view = session.view.node(node_id)
            _node(report, view)
            _console(report, session, view, settings.get(node_id))
    await _twins(report, heard)


async def _nothing_seen(report: Report, session: Session, heard: Overheard, chosen: list[str]) -> None:
    if heard.other_prefixes:
        others = ", ".join(repr(prefix) for prefix in sorted(heard.other_prefixes)[:4])
        report.fault(
            Link.ACCESS, "prefix",
            f"nothing is under the topic prefix {session.topics.prefix!r}, and there are nodes under {others}",
            "correct mqtt.prefix (or --prefix)",
        )  # fmt: skip
        return
    account = session.access.mqtt.username or "without a name"
    if chosen:
        asked = await ask(session, heard, chosen[0])
        if asked.refused:
            _say_may_not_write(report, session, chosen[0], asked.refused)
            return
        if asked.result is not None or not asked.nobody:
            report.fault(
                Link.ACCESS, "may-not-read", f"the account {account} may send commands, and sees nothing of the fleet",
                "let it read nodes/# and services/# at the broker (`pypmi init` writes the rules into mosquitto/acl;"
                " the broker must read them anew)",
            )  # fmt: skip
            return
    report.fault(
        Link.AGENT, "nobody", "the broker knows no service and no node of this fleet: no agent has ever been there",
        "start the services (`pypmi up`, docker compose up -d, systemctl start 'pypmi@*'); their logs say why they"
        " do not come",
    )  # fmt: skip


def _say_may_not_write(report: Report, session: Session, node_id: str, why: str) -> None:
    account = session.access.mqtt.username or "without a name"
    topic = session.topics.node(node_id, TopicKind.POWER_SET)
    report.fault(
        Link.ACCESS, "may-not-write", f"the account {account} may not send commands to {topic}: {why}",
        "use the operator's account, or let this one write there at the broker (mosquitto/acl)", node_id,
    )  # fmt: skip


def _agent_there(report: Report, session: Session, view: NodeView, settings: NodeSettings | None) -> bool:
    """Whether the node's agent is there and is the right one."""
    info = view.info
    if info is None:
        _unannounced(report, session, view.id, settings)
        return False
    if settings is not None and info.agent != settings.agent_name:
        report.fault(
            Link.AGENT, "other-agent",
            f"{view.id} is announced by {info.agent}, and fleet.yaml gives it to {settings.agent_name}",
            f"have {info.agent} read the present fleet.yaml (restart it, or SIGHUP), and start {settings.agent_name}",
            view.id,
        )  # fmt: skip
        return False
    if not view.agent_available:
        said = session.view.services.get(info.agent)
        host = f" (last on {said.info.host})" if said is not None and said.info is not None else ""
        report.fault(
            Link.AGENT, "agent-away",
            f"{info.agent}{host}, which works {view.id}, is not running or has lost the broker",
            f"start {info.agent} on its machine; its log says why it ended or can't connect", view.id,
        )  # fmt: skip
        return False
    if info.contract != CONTRACT_VERSION:
        older, newer = sorted((info.contract, CONTRACT_VERSION))
        who = f"this tool speaks {CONTRACT_VERSION}, {info.agent} speaks {info.contract}"
        report.warn(
            Link.AGENT, "contract-version", f"{view.id}: the contract's versions differ: {who}",
            f"update what speaks {older} to a release that speaks {newer}", view.id,
        )  # fmt: skip
    return True


def _unannounced(report: Report, session: Session, node_id: str, settings: NodeSettings | None) -> None:
    known = session.access.loaded.fleet.nodes if session.access.loaded else ()
    if settings is None:
        names = [node.id for node in known] or sorted(n for n, view in session.view.nodes.items() if not view.empty)
        there = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        report.fault(
            Link.NODE, "node-unknown", f"there is no node {node_id!r}, in fleet.yaml or on the broker",
            f"correct the name; there are {there or 'none'}", node_id,
        )  # fmt: skip
        return
    agent = session.view.services.get(settings.agent_name)
    if agent is None or not agent.available:
        report.fault(
            Link.AGENT, "agent-away", f"{settings.agent_name}, which is to work {node_id}, is not running",
            f"start {settings.agent_name} (on the machine it belongs to; its log says why it does not come)", node_id,
        )  # fmt: skip
        return
    host = f" on {agent.info.host}" if agent.info is not None else ""
    report.fault(
        Link.AGENT, "agent-without-node", f"{settings.agent_name}{host} runs, and does not know {node_id}",
        "give it the present fleet.yaml, and have it read it (SIGHUP or restart); at `pypmi init` the broker's rules"
        " follow: run it again too",
        node_id,
    )  # fmt: skip


async def _probe(report: Report, session: Session, heard: Overheard, agent: str, node_id: str) -> bool:
    """Have an agent answer; returns whether it did."""
    asked = await ask(session, heard, node_id)
    if asked.refused:
        _say_may_not_write(report, session, node_id, asked.refused)
        return False
    if asked.result is None:
        if asked.nobody:
            text = f"{agent} says that it is online, and is not subscribed to the commands of {node_id}"
            fix = f"at the broker its account must be able to read {session.topics.node(node_id, TopicKind.POWER_SET)}"
        else:
            text = f"{agent} does not answer within {asked.seconds:.0f} s, though it counts as online"
            fix = f"look at its log; restart {agent} if it hangs"
        report.fault(Link.AGENT, "agent-silent", text, fix, node_id)
        return False
    report.ok(Link.ACCESS, "commands and their answers pass the broker")
    report.ok(Link.AGENT, f"{agent} answers in {asked.seconds * 1000:.0f} ms", node_id)
    _clock(report, session, agent, asked.skew)
    return True


def _clock(report: Report, session: Session, agent: str, skew: float) -> None:
    if abs(skew) < CLOCK_WARNING:
        report.ok(Link.CLOCK, f"the clocks of {agent} and of this machine agree")
        return
    service = session.view.services.get(agent)
    host = service.info.host if service is not None and service.info is not None else "its machine"
    text = clock_differs(f"{agent} ({host})", skew)
    fix = f"run NTP on both ({host} and here): `timedatectl` shows whether it is synchronised"
    if abs(skew) > CLOCK_FAULT:
        report.fault(Link.CLOCK, "clock", f"{text}: commands are refused as late or too early", fix)
    else:
        report.warn(Link.CLOCK, "clock", text, fix)


def _node(report: Report, view: NodeView) -> None:
    info, state, node_id = view.info, view.state, view.id
    if info is None or not view.node_available:
        kind = info.driver if info else "its hardware"
        fix = {
            "gpio": "does the agent have the chip and the lines (gpioinfo), and may it open /dev/gpiochip*?",
            "bmc": "is the BMC's address, account and password right? `ipmitool -H HOST -U USER mc info` tries it",
        }.get(kind, "see what is said of the board below, and the agent's log")
        report.fault(
            Link.NODE, "hardware-unreachable",
            f"the agent can't reach the hardware of {node_id} ({kind}), or must not work it",
            fix, node_id,
        )  # fmt: skip
        return
    report.ok(Link.NODE, f"{node_id} can be worked ({info.firmware or info.driver})", node_id)
    if state is None:
        report.fault(Link.STATUS, "no-state", f"{node_id} has no state on the broker", "restart its agent", node_id)
    elif state.fault is not None:
        confirm = state.fault.code is ErrorCode.NOT_CONFIRMED
        fix = (
            "does the relay click at a press? Then: is it on the power pins (COM, NO), is the LED on the status input,"
            " `status.active` the right way round? No click: is the relay's pin right? Again: `doctor NODE --press`"
            if confirm
            else "see docs/troubleshooting.md"
        )
        report.fault(Link.STATUS, "power-fault", f"{node_id}: {state.fault.message}", fix, node_id)
    elif Capability.STATUS not in info.capabilities:
        report.warn(
            Link.STATUS, "no-status-input", f"{node_id} has no status input: whether it is on is never known",
            "wire the power LED (`status`), or give it a `probe`", node_id,
        )  # fmt: skip
    elif state.power is PowerState.UNKNOWN:
        report.fault(
            Link.STATUS,
            "status-unknown",
            f"the status input of {node_id} can't be read",
            "see the agent's log",
            node_id,
        )
    else:
        seen = " (not changed since its agent started)" if state.since is None or state.cause == "unknown" else ""
        report.ok(Link.STATUS, f"{node_id} is {state.power}{seen}", node_id)


def _console(report: Report, session: Session, view: NodeView, settings: NodeSettings | None) -> None:
    wanted = settings.console is not None if settings is not None else bool(view.info and view.info.console)
    if not wanted:
        return
    console = view.console
    relay = console.relay if console is not None else None
    if relay is None and settings is not None and settings.console is not None:
        relay = settings.console.relay
    service = session.view.services.get(relay or "")
    if console is None or (service is not None and not service.available) or service is None:
        report.fault(
            Link.CONSOLE, "relay-away", f"the console of {view.id}: its relay ({relay or 'sol-relay'}) is not running",
            f"start {relay or 'sol-relay'}; its log says why it ended", view.id,
        )  # fmt: skip
    elif not console.online:
        report.fault(
            Link.CONSOLE, "console-port",
            f"the console of {view.id} can't be opened: {console.error or 'its port is away'}",
            "is the port right (`console`), and does another program hold it?", view.id,
        )  # fmt: skip
    else:
        report.ok(Link.CONSOLE, f"the console of {view.id} is open, {console.offset} octets heard", view.id)


async def _twins(report: Report, heard: Overheard) -> None:
    """Two processes of one name end each other for ever: their starts give them away."""
    loop = asyncio.get_running_loop()
    now = utc_now()
    young = {
        name
        for name, starts in heard.starts.items()
        if any((now - info.started).total_seconds() < _YOUNG for info in starts.values())
    }
    until = loop.time() + _TWIN_WATCH
    while young and loop.time() < until and not any(len(heard.starts[name]) > 1 for name in young):
        await asyncio.sleep(0.1)
    for name in sorted(young):
        starts = heard.starts[name]
        if len(starts) > 1:
            hosts = ", ".join(sorted({info.host for info in starts.values()}))
            report.fault(
                Link.AGENT, "twins",
                f"{name} has started {len(starts)} times while we looked (on {hosts}): two of this name end each other,"
                " or it crashes",
                f"stop one of them, or give each its own --name (is the demo running?); see the log of {name}",
            )  # fmt: skip
