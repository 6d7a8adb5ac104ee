"""What command modules share: on whose behalf a request acts, and completion codes for what went wrong on the way."""

import logging
from collections.abc import Awaitable, Callable

from ipmi_gateway.codes import Code
from ipmi_gateway.commands.registry import CompletionError, Handler, Request
from ipmi_gateway.targets.base import (
    Origin,
    Target,
    TargetBusyError,
    TargetError,
    TargetStateError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnsupportedError,
)

log = logging.getLogger(__name__)

_CODES: tuple[tuple[type[TargetError], Code], ...] = (
    (TargetUnavailableError, Code.DESTINATION_UNAVAILABLE),
    (TargetBusyError, Code.NODE_BUSY),
    (TargetTimeoutError, Code.TIMEOUT),
    (TargetStateError, Code.NOT_IN_PRESENT_STATE),
)


def target_of(request: Request) -> Target:
    """The machine behind the controller; D3h where there is none."""
    target = request.bmc.target
    if target is None:
        raise CompletionError(Code.DESTINATION_UNAVAILABLE)
    return target


def origin_of(request: Request) -> Origin:
    """Who asks, for the audit trail."""
    session = request.session
    if session is None:
        return Origin("", "")
    return Origin(session.user.name, str(session.peer[0]))


async def carried_out(request: Request, action: Awaitable[None], unsupported: Code = Code.INVALID_COMMAND) -> bytes:
    """Wait until the target has accepted an action; say with a completion code why it did not."""
    try:
        await action
    except TargetUnsupportedError as error:
        log.info("%s: %s", request.bmc.controller.label, error)
        raise CompletionError(unsupported) from error
    except TargetError as error:
        log.warning("%s: %s", request.bmc.controller.label, error)
        code = next((code for kind, code in _CODES if isinstance(error, kind)), Code.UNSPECIFIED)
        raise CompletionError(code) from error
    return b""


def refreshed(handler: Callable[[Request], bytes], *, required: bool = True) -> Handler:
    """A handler that tells a machine's state: where that has to be fetched, it is fetched first.

    `required`: refuse when it can't be fetched (D5h where the machine has no way to tell), rather than go on without.
    """

    async def fetch(request: Request, refresh: Callable[[], Awaitable[None]]) -> bytes:
        try:
            await carried_out(request, refresh(), Code.NOT_IN_PRESENT_STATE)
        except CompletionError:
            if required:
                raise
        return handler(request)

    def answer(request: Request) -> bytes | Awaitable[bytes]:
        refresh = request.bmc.controller.refresh
        return handler(request) if refresh is None else fetch(request, refresh)

    return answer


def part(data: bytes, offset: int, count: int) -> bytes:
    """`count` octets of a record from `offset`; FFh: the rest. C9h behind its end, CAh for more than there is."""
    if offset > len(data) or (offset == len(data) and count):
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    if count == 0xFF:
        return data[offset:]
    if offset + count > len(data):
        raise CompletionError(Code.CANNOT_RETURN_BYTES)
    return data[offset : offset + count]
