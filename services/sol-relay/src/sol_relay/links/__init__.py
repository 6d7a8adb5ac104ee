"""Ways to a serial port: one of this host, raw TCP, the ESP8266 bridge, RFC 2217."""

from sol_relay.links.base import Link, LinkBreakError, LinkError
from sol_relay.links.opening import open_link
from sol_relay.links.target import PortTarget, target_of

__all__ = ["Link", "LinkBreakError", "LinkError", "PortTarget", "open_link", "target_of"]
