"""Wait until the fleet's state is as wanted, for commands that have no result of their own."""

import asyncio
from collections.abc import Callable

from pypmi.contract import Event, EventType

from pypmi_cli.session import Session

ANSWER = 5.0
"""Seconds until an agent has shown what it made of a request; it takes milliseconds."""


class Refusals:
    """What agents say they have refused since this was made; `Session` must have its events."""

    def __init__(self, session: Session) -> None:
        self._said: dict[str, str] = {}
        session.view.listen_events(self._on_event)

    def _on_event(self, node_id: str, event: Event) -> None:
        if event.type is EventType.REFUSED:
            self._said[node_id] = event.message

    def of(self, node_id: str) -> str | None:
        """Why the node's agent refused; None while it has not."""
        return self._said.get(node_id)


async def wait_until(condition: Callable[[], bool], seconds: float = ANSWER) -> bool:
    """Return whether `condition` came true within so many seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not condition():
        if loop.time() > until:
            return False
        await asyncio.sleep(0.02)
    return True
