"""One row per command: network function, number, privilege, data length, handler.

Handlers take a `Request` and return the response data behind the completion code; they refuse by raising
`CompletionError`. A handler that has to wait for the bus returns an awaitable; everything that can be answered from
memory returns `bytes` at once, which is what keeps the common commands cheap.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipmi_gateway.codes import Code, Privilege

if TYPE_CHECKING:
    from ipmi_gateway.bmc import Bmc
    from ipmi_gateway.sessions.session import Session


class CompletionError(Exception):
    """A request is refused with this completion code (`data` follows it where the command defines some)."""

    def __init__(self, code: int, data: bytes = b"") -> None:
        super().__init__(f"completion code {code:#04x}")
        self.code = code
        self.data = data


@dataclass(slots=True)
class Request:
    """One IPMI request, as a handler sees it, whether it came directly, bridged or on a node's own port."""

    netfn: int
    """Even: the request's."""
    command: int
    data: bytes
    bmc: "Bmc"
    """The management controller addressed: the gateway's own, or a node's."""
    session: "Session | None"
    """None for what may be asked before a session."""
    now: float
    """Monotonic seconds."""
    lun: int = 0
    bridged: bool = False
    """Came inside Send Message."""
    channel: int = 0
    """The channel the target sits on (the number given with -b); meaningless unless bridged."""


Handler = Callable[[Request], bytes | Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table."""

    netfn: int
    number: int
    privilege: Privilege
    """The least that is needed (appendix G). `HIGHEST` (0) marks those that need no session."""
    minimum: int
    maximum: int
    """Octets of request data; shorter or longer is answered C7h."""
    handler: Handler
    changes: bool = False
    """It changes something: an audit line is written for it."""


def call(command: Command | None, request: Request, privilege: Privilege) -> bytes | Awaitable[bytes]:
    """Check existence, privilege and length, in that order, then call the handler.

    Raises `CompletionError`: C1h, D4h or C7h, or what the handler says.
    """
    if command is None:
        raise CompletionError(Code.INVALID_COMMAND)
    if privilege < command.privilege:
        raise CompletionError(Code.INSUFFICIENT_PRIVILEGE)
    if not command.minimum <= len(request.data) <= command.maximum:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    return command.handler(request)


class Registry:
    """The commands that are served; anything else is answered C1h."""

    def __init__(self) -> None:
        self._commands: dict[int, Command] = {}

    def add(
        self,
        netfn: int,
        number: int,
        privilege: Privilege,
        length: int | tuple[int, int] = 0,
        *,
        changes: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Decorate a handler with its row. `length` is the data length, or (least, most)."""
        minimum, maximum = (length, length) if isinstance(length, int) else length

        def register(handler: Handler) -> Handler:
            key = netfn << 8 | number
            if key in self._commands:
                raise ValueError(f"command {netfn:02x}h/{number:02x}h is there twice")
            self._commands[key] = Command(netfn, number, privilege, minimum, maximum, handler, changes)
            return handler

        return register

    def include(self, others: Iterable["Registry"]) -> "Registry":
        """Take in the rows of other tables; returns self."""
        for other in others:
            for key, command in other._commands.items():
                if key in self._commands:
                    raise ValueError(f"command {command.netfn:02x}h/{command.number:02x}h is there twice")
                self._commands[key] = command
        return self

    def find(self, netfn: int, number: int) -> Command | None:
        """The row of a command, or None."""
        return self._commands.get(netfn << 8 | number)

    def dispatch(self, request: Request, privilege: Privilege) -> bytes | Awaitable[bytes]:
        """Find the row of a request, and `call` it. Raises `CompletionError`."""
        return call(self.find(request.netfn, request.command), request, privilege)
