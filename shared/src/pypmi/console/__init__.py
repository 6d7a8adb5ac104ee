"""The viewer's side of serial consoles, for front ends: output in order and whole, and input to it.

hub = ConsoleHub(bus, requests, topics)          # one per process; run `hub.run()` in a task
queue = ConsoleQueue()
console = hub.attach("node7", "gateway-session-12", queue.put)
...
event = await queue.get()                        # ConsoleData, ConsoleGap or ConsoleNotice
console.write_nowait(b"ls")                    # how many octets were taken; ConsoleOfflineError
await console.send_break(250)
console.detach()
"""

from pypmi.console.client import ConsoleClient
from pypmi.console.events import (
    ConsoleData,
    ConsoleError,
    ConsoleEvent,
    ConsoleGap,
    ConsoleNotice,
    ConsoleOfflineError,
    ConsoleQueue,
    ConsoleRefusedError,
    NoticeKind,
)
from pypmi.console.hub import ConsoleHub

__all__ = [
    "ConsoleClient",
    "ConsoleData",
    "ConsoleError",
    "ConsoleEvent",
    "ConsoleGap",
    "ConsoleHub",
    "ConsoleNotice",
    "ConsoleOfflineError",
    "ConsoleQueue",
    "ConsoleRefusedError",
    "NoticeKind",
]
