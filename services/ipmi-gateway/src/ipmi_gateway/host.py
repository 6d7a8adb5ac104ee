"""What the machine that the gateway runs on calls its network: for Get LAN Configuration Parameters, nothing else."""

import ipaddress
import socket
import struct
import sys
from pathlib import Path

_ROUTES = Path("/proc/net/route")
_INTERFACES = Path("/sys/class/net")
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_NAME_SIZE = 16
_NOWHERE = "0.0.0.0"


def host_network(listening: str = _NOWHERE) -> tuple[str, str, str, bytes]:
    """IPv4 address, netmask, default gateway and MAC of the interface that clients are likely to reach.

    That is the one with the default route, or the one that has the address `listening`. What can't be told (all of it,
    on anything but Linux) is zeros.
    """
    if not sys.platform.startswith("linux"):
        return listening, _NOWHERE, _NOWHERE, bytes(6)
    routes = _routes()
    if listening != _NOWHERE:
        names = [name for name in _interface_names() if _ask(name, _SIOCGIFADDR) == listening]
        name = names[0] if names else None
    else:
        name = next((name for name, gateway in routes.items() if gateway != _NOWHERE), None)
    if name is None:
        return listening, _NOWHERE, _NOWHERE, bytes(6)
    address = _ask(name, _SIOCGIFADDR) if listening == _NOWHERE else listening
    return address, _ask(name, _SIOCGIFNETMASK), routes.get(name, _NOWHERE), _mac(name)


def _interface_names() -> list[str]:
    try:
        return sorted(path.name for path in _INTERFACES.iterdir())
    except OSError:
        return []


def _routes() -> dict[str, str]:
    """The default gateway of each interface that has one."""
    found: dict[str, str] = {}
    try:
        lines = _ROUTES.read_text("ascii").splitlines()[1:]
    except (OSError, UnicodeDecodeError):
        return found
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            found.setdefault(fields[0], str(ipaddress.IPv4Address(struct.pack("=I", int(fields[2], 16)))))
    return found


def _ask(name: str, request: int) -> str:
    """An address of an interface, by ioctl (netdevice(7)); zeros when it has none."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, request, struct.pack("256s", name.encode()[: _NAME_SIZE - 1]))
        except OSError:
            return _NOWHERE
    return socket.inet_ntoa(answer[_NAME_SIZE + 4 : _NAME_SIZE + 8])


def _mac(name: str) -> bytes:
    try:
        mac = bytes.fromhex((_INTERFACES / name / "address").read_text("ascii").strip().replace(":", ""))
    except (OSError, ValueError):
        return bytes(6)
    return mac if len(mac) == 6 else bytes(6)
