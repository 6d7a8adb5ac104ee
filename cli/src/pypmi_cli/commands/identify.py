"""`pypmi identify`: the locator light."""

import asyncio
from typing import Annotated

import typer
from pypmi.bus import BusError, BusRefusedError
from pypmi.contract import Capability, ContractError, IdentifyRequest, IdentifyState, TopicKind

from pypmi_cli.access import Access
from pypmi_cli.commands.common import Json, Nodes, execute, print_done
from pypmi_cli.commands.nodes import why_unavailable
from pypmi_cli.commands.waiting import Refusals, wait_until
from pypmi_cli.exits import Exit
from pypmi_cli.selection import choose, known_nodes
from pypmi_cli.session import Session, connect


def identify(
    context: typer.Context,
    node: Nodes,
    what: Annotated[str, typer.Argument(metavar="on|off|SECONDS", help="Until told otherwise, off, or for so long.")],
    as_json: Json = False,
) -> None:
    """Light the locator light of nodes that have one, so that somebody finds the machine in the rack."""
    try:
        request = IdentifyRequest.parse(what.encode())
    except ContractError:
        raise typer.BadParameter("on, off, or a number of seconds from 0 to 86400") from None
    execute(context, lambda access: _identify(access, node, request, as_json=as_json))


async def _identify(access: Access, pattern: str, request: IdentifyRequest, *, as_json: bool) -> Exit:
    async with connect(access, events=True) as session:
        chosen = choose(pattern, known_nodes(session))
        refusals = Refusals(session)
        done = await asyncio.gather(*(_one(session, node_id, request, refusals) for node_id in chosen))
    return print_done(chosen, done, as_json=as_json)


async def _one(session: Session, node_id: str, request: IdentifyRequest, refusals: Refusals) -> tuple[Exit, str]:
    view = session.view.node(node_id)
    info = view.info
    why = why_unavailable(view)
    if info is None or why:
        return Exit.UNAVAILABLE, f"not sent: {why}"
    if Capability.IDENTIFY not in info.capabilities:
        return Exit.FAILED, "not sent: it has no locator light"
    try:
        await session.bus.publish(session.topics.node(node_id, TopicKind.IDENTIFY_SET), request.to_payload(), expiry=10)
    except BusRefusedError as error:
        return Exit.FAILED, f"{error}: this account may not set it"
    except BusError as error:
        return Exit.UNKNOWN, f"the broker was lost meanwhile: {error}"
    wanted = {None: IdentifyState.ON, 0: IdentifyState.OFF}.get(request.seconds, IdentifyState.TIMED)

    def is_set() -> bool:
        return view.state is not None and view.state.identify is wanted

    await wait_until(lambda: refusals.of(node_id) is not None or is_set())
    if (refused := refusals.of(node_id)) is not None:
        return Exit.FAILED, f"refused: {refused}"
    if not is_set():
        return Exit.UNKNOWN, "no answer from its agent; what became of it is not known"
    return Exit.OK, f"light is {'on' if request.seconds is None else wanted.value}" + (
        f" for {request.seconds} s" if request.seconds else ""
    )
