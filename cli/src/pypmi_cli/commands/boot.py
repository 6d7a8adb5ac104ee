"""`pypmi boot`: where nodes boot from next."""

import asyncio
from typing import Annotated, Any

import typer
from pypmi.bus import BusError, BusRefusedError
from pypmi.contract import BootDevice, BootIntent, BootRequest, Capability, TopicKind

from pypmi_cli.access import Access
from pypmi_cli.commands.common import Json, Nodes, Yes, confirm, execute, print_done, user_name
from pypmi_cli.commands.nodes import why_unavailable
from pypmi_cli.commands.waiting import Refusals, wait_until
from pypmi_cli.exits import Exit
from pypmi_cli.output import age, out, print_json, table
from pypmi_cli.selection import choose, is_pattern, known_nodes
from pypmi_cli.session import SOURCE, Session, connect


def boot(
    context: typer.Context,
    node: Nodes,
    device: Annotated[
        BootDevice | None, typer.Argument(help="Where to boot from; none clears; nothing at all shows what is set.")
    ] = None,
    persistent: Annotated[bool, typer.Option("--persistent", help="For every boot, not just the next one.")] = False,
    efi: Annotated[bool, typer.Option("--efi", help="In UEFI mode.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Show or set where nodes boot from. Nothing is switched on or reset by it."""
    if device is None:
        if persistent or efi:
            raise typer.BadParameter("--persistent and --efi go with a device")
        execute(context, lambda access: _show(access, node, as_json=as_json))
        return
    request = BootRequest(device=device, persistent=persistent, efi=efi, source=SOURCE, user=user_name())
    execute(context, lambda access: _set(access, node, request, yes=yes, as_json=as_json))


async def _show(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        chosen = choose(pattern, known_nodes(session))
        if as_json:
            print_json([describe_boot(node_id, session.view.node(node_id).boot) for node_id in chosen])
            return Exit.OK
        rows = table("NODE", "DEVICE", "FOR", "MODE", "SET", "BY")
        for node_id in chosen:
            intent = session.view.node(node_id).boot
            if intent is None or intent.device is BootDevice.NONE:
                rows.add_row(node_id, "-", "-", "-", "-", "-")
                continue
            life, mode = "every boot" if intent.persistent else "next boot", "UEFI" if intent.efi else "BIOS"
            by = " ".join(filter(None, (intent.user, f"({intent.source})" if intent.source else "")))
            rows.add_row(node_id, intent.device.value, life, mode, f"{age(intent.at)} ago", by or "-")
        out().print(rows)
    return Exit.OK


def describe_boot(node_id: str, intent: BootIntent | None) -> dict[str, Any]:
    """For scripts."""
    return {
        "node": node_id,
        "device": intent.device.value if intent else "none",
        "persistent": intent.persistent if intent else False,
        "efi": intent.efi if intent else False,
        "at": intent.at if intent else None,
        "source": intent.source if intent else None,
        "user": intent.user if intent else None,
    }


async def _set(access: Access, pattern: str, request: BootRequest, *, yes: bool, as_json: bool) -> Exit:
    async with connect(access, events=True) as session:
        chosen = choose(pattern, known_nodes(session))
        if (len(chosen) > 1 or is_pattern(pattern)) and not yes:
            confirm(f"boot from {request.device}", chosen)
        refusals = Refusals(session)
        done = await asyncio.gather(*(_set_one(session, node_id, request, refusals) for node_id in chosen))
    return print_done(chosen, done, as_json=as_json)


async def _set_one(session: Session, node_id: str, request: BootRequest, refusals: Refusals) -> tuple[Exit, str]:
    view = session.view.node(node_id)
    info = view.info
    if info is None or not view.agent_available:
        return Exit.UNAVAILABLE, f"not sent: {why_unavailable(view)}"
    if Capability.BOOT not in info.capabilities:
        return Exit.FAILED, "not sent: it can't keep a boot device"
    before = view.boot
    try:
        await session.bus.publish(session.topics.node(node_id, TopicKind.BOOT_SET), request.to_payload(), expiry=10)
    except BusRefusedError as error:
        return Exit.FAILED, f"{error}: this account may not set it"
    except BusError as error:
        return Exit.UNKNOWN, f"the broker was lost meanwhile: {error}"

    def is_set() -> bool:
        now = view.boot
        return now is not None and now is not before and now.device is request.device

    await wait_until(lambda: refusals.of(node_id) is not None or is_set())
    if (why := refusals.of(node_id)) is not None:
        return Exit.FAILED, f"refused: {why}"
    if not is_set():
        return Exit.UNKNOWN, "no answer from its agent; what became of it is not known"
    if request.device is BootDevice.NONE:
        return Exit.OK, "boots as its own settings say"
    mode = ", UEFI" if request.efi else ""
    return Exit.OK, f"boots from {request.device} {'always' if request.persistent else 'once'}{mode}"
