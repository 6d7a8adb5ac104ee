"""systemd's notification protocol (sd_notify): one datagram to the socket that systemd names."""

import os
import socket
from contextlib import suppress


def notify(text: str) -> None:
    """Send a state such as `READY=1`; does nothing when no supervisor asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address)
