"""The worker process of one BMC: takes requests from a socket, one at a time, until it closes."""

import select
import signal
import socket
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from bmc_agent import messages
from bmc_agent.client import BmcClient, BmcError
from bmc_agent.messages import Reply, Request, Trouble

HOUSEKEEPING = 5.0
"""Seconds between two looks at the session while nothing is asked."""

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Request)


def serve(channel: socket.socket) -> None:
    """Run until the agent closes its end, then log out. The target of the process."""
    # Ctrl-C and a supervisor's SIGTERM reach the whole group; the agent tells its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    client: BmcClient | None = None
    with channel, channel.makefile("rb") as stream:
        while True:
            while not select.select([channel], [], [], HOUSEKEEPING)[0]:
                if client is not None:
                    client.keep_alive()
            line = stream.readline()
            if not line:
                break
            request = _REQUESTS.validate_json(line)
            try:
                if isinstance(request, messages.Login):
                    client = BmcClient(request)
                    result: Any = client.identity()
                elif client is None:
                    raise BmcError(Trouble.UNREACHABLE, "not logged in")
                else:
                    result = _answer(client, request)
                reply = Reply(result=result.model_dump(mode="json") if isinstance(result, BaseModel) else result)
            except BmcError as error:
                reply = Reply(trouble=error.trouble, text=str(error))
            except ValidationError as error:
                reply = Reply(trouble=Trouble.REFUSED, text=f"answer not understood: {error.error_count()} fields")
            channel.sendall(reply.model_dump_json().encode() + b"\n")
        if client is not None:
            client.log_out()


def _answer(client: BmcClient, request: Request) -> Any:
    match request:
        case messages.ReadPower():
            return client.power()
        case messages.SetPower(action=action):
            return client.set_power(action)
        case messages.SetBoot(device=device, persistent=persistent, efi=efi):
            return client.set_boot(device, persistent=persistent, efi=efi)
        case messages.Identify(seconds=seconds):
            return client.identify(seconds)
        case messages.TakeInventory():
            return client.inventory()
        case messages.ReadSensors():
            return client.readings()
        case messages.ReadEvents():
            return client.events()
    raise BmcError(Trouble.REFUSED, f"unknown request {request.op}")
