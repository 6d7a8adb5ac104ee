"""Is a machine on? Asks its network: a TCP connection or a ping, where no status input is wired (`StatusProbe`).

It is the operating system that answers: a machine that is on and still booting counts as off until it does.
"""

import asyncio
import errno
import logging
import os
import socket
import struct

from pypmi.config.hardware import ProbeSettings

log = logging.getLogger(__name__)

_ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
"""ICMP echo (RFC 792) and ICMPv6 echo (RFC 4443 section 4)."""
_HEADER = struct.Struct("!BBHHH")
_PAYLOAD_SIZE = 16

_OWN_TROUBLE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE})
"""Errors that say something of this host's network, nothing of the machine."""


class _UnknownError(Exception):
    """The probe could not be made. The text is for the log."""


class HostProbe:
    """Asks as `settings` say, and turns single answers into on, off or unknown. Implements `StatusProbe`.

    One answer is on at once; off takes `settings.failures` probes in a row without one. None until that many have
    failed after the start, and whenever this host can't probe (no route, no name, no permission to ping).
    """

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._last: bool | None = None
        self._complaint = ""

    @property
    def interval(self) -> float:
        """Seconds between two readings."""
        return self._settings.interval

    async def read_status(self) -> bool | None:
        """Probe once. Ends within `settings.timeout`; does not raise."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                answered = await self._probe()
        except TimeoutError:
            answered = False
        except _UnknownError as error:
            self._complain(str(error))
            self._last, self._failures = None, 0
            return None
        self._complain("")
        if answered:
            self._last, self._failures = True, 0
        else:
            self._failures += 1
            if self._failures >= self._settings.failures:
                self._last = False
        return self._last

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            log.warning("%s", text)
        self._complaint = text

    async def _probe(self) -> bool:
        host, port = self._settings.host, self._settings.tcp_port
        try:
            if port is not None:
                return await _connects(host, port)
            return await _pings(host)
        except socket.gaierror as error:
            raise _UnknownError(f"cannot probe {host}: {error.strerror}") from None
        except OSError as error:
            if error.errno in _OWN_TROUBLE:
                raise _UnknownError(f"cannot probe {host}: {error.strerror}") from None
            return False


async def _connects(host: str, port: int) -> bool:
    """Whether something at `host` answers for TCP `port`: a refusal comes from a running machine, too."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except OSError as error:
        # of several addresses: asyncio joins the errors' texts and drops their numbers
        if error.errno is None and "Connect call failed" in str(error):
            return f"[Errno {errno.ECONNREFUSED}]" in str(error)
        raise
    writer.transport.abort()  # nothing to say; leaves no connection half-open on a machine that is going down
    return True


async def _pings(host: str) -> bool:
    """Whether `host` answers one ICMP echo request. Waits for as long as it takes."""
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM))[0]
    kind = socket.AddressFamily(family)
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[kind])
    except PermissionError:
        raise _UnknownError(
            f"cannot ping {host}: not permitted; allow it by sysctl net.ipv4.ping_group_range='0 2147483647', "
            "or give the probe a tcp_port"
        ) from None
    with sock:
        sock.setblocking(False)
        sock.connect(address)  # of a datagram socket: returns at once
        payload = os.urandom(_PAYLOAD_SIZE)
        await loop.sock_sendall(sock, echo_request(kind, payload))
        while True:
            if is_echo_reply(kind, await loop.sock_recv(sock, 1024), payload):
                return True


def echo_request(family: socket.AddressFamily, payload: bytes) -> bytes:
    """An echo request; the kernel fills in identifier and checksum on a ping socket."""
    return _HEADER.pack(_ECHO_REQUEST[family], 0, 0, 0, 1) + payload


def is_echo_reply(family: socket.AddressFamily, packet: bytes, payload: bytes) -> bool:
    """Whether `packet`, as a ping socket delivers it, answers the request that had `payload`."""
    return packet[:1] == bytes([_ECHO_REPLY[family]]) and packet[_HEADER.size :] == payload
