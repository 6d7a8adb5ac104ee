"""Opens the port that a configuration names."""

from sol_relay.links.base import Link
from sol_relay.links.esp8266 import open_esp8266
from sol_relay.links.rfc2217 import open_rfc2217
from sol_relay.links.serialport import open_serial
from sol_relay.links.target import PortTarget
from sol_relay.links.tcp import open_tcp


async def open_link(target: PortTarget) -> Link:
    """Open a port. Raises `LinkError`."""
    match target.type:
        case "serial":
            return open_serial(target)
        case "tcp":
            return await open_tcp(target)
        case "esp8266":
            return await open_esp8266(target)
        case "rfc2217":
            return await open_rfc2217(target)
