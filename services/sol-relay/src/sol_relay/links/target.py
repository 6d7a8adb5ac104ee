"""Where a console's port is and how it is set, with the node's defaults filled in."""

from dataclasses import dataclass
from typing import Literal

from pypmi.config.fleet import NodeSettings
from pypmi.config.hardware import ConsoleSettings, Esp8266Hardware, Parity


@dataclass(frozen=True, slots=True)
class PortTarget:
    """A port: `path` for type serial, `host` and `port` for the others."""

    type: Literal["serial", "rfc2217", "tcp", "esp8266"]
    path: str = ""
    host: str = ""
    port: int = 0
    baud: int = 115_200
    bits: int = 8
    parity: Parity = "none"
    stop: Literal[1, 2] = 1
    flow: Literal["none", "rts-cts", "xon-xoff"] = "none"

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def target_of(node: NodeSettings, console: ConsoleSettings) -> PortTarget:
    """The port of a node's console. A console of type esp8266 takes what it does not say from the node's board."""
    host, port = console.host, console.port
    baud, bits, parity, stop = console.baud, console.bits, console.parity, console.stop
    if console.type == "esp8266" and isinstance(node.hardware, Esp8266Hardware):
        board, said = node.hardware, console.model_fields_set
        host, port = host or board.host, port or board.bridge_port
        baud = baud if "baud" in said else board.uart.baud
        bits = bits if "bits" in said else board.uart.bits
        parity = parity if "parity" in said else board.uart.parity
        stop = stop if "stop" in said else board.uart.stop
    return PortTarget(
        type=console.type, path=console.path or "", host=host or "", port=port or 0, baud=baud, bits=bits,
        parity=parity, stop=stop, flow=console.flow,
    )  # fmt: skip
