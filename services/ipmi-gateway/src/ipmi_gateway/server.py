"""The one module that owns UDP sockets: it feeds the engine and sends what comes out.

A socket is read until it is empty whenever it is readable, straight from the event loop: asyncio's datagram
transports cost five times as much for each packet.
"""

import asyncio
import errno
import logging
import socket
import struct
import sys
from typing import Final

from ipmi_gateway.directory import Listener
from ipmi_gateway.engine import Engine, Work
from ipmi_gateway.sessions.session import Peer

log = logging.getLogger(__name__)

_RECEIVE_SIZE: Final = 2048
"""More than the engine takes: what is longer is cut off, and dropped for its length."""
_BATCH: Final = 64
"""Datagrams taken from one socket before the rest of the program gets its turn."""
_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Octets asked of the kernel, for bursts; it may give less."""
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})
_IP_PKTINFO: Final = 8
"""Linux's number; Python names it from 3.14 on."""
_PKTINFO_V4: Final = struct.Struct("=i4s4s")
"""Interface, local address, destination address of the header."""
_PKTINFO_V6: Final = struct.Struct("=16si")
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(_PKTINFO_V6.size)
_LINK_LOCAL: Final = b"\xfe\x80"
_Ancillary = list[tuple[int, int, bytes]]
_UDP_SEGMENT: Final = 103
"""Linux's number (udp(7)); Python has no name for it."""
_SEGMENT: Final = struct.Struct("=H")


class _RoutedPeer(tuple[str, int]):  # noqa: SLOT001 - a tuple can have no slots with something in them
    """A client that came to a socket bound to all addresses; the answer must leave from the one that it came to.

    To the engine it is a peer like all others. Without this a host of several addresses answers from whichever its
    routing table prefers, and clients drop that.
    """

    source: _Ancillary


def _source(ancillary: _Ancillary) -> _Ancillary:
    """What makes an answer leave from the address that a packet came to."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, local, _ = _PKTINFO_V4.unpack_from(data)
            return [(level, kind, _PKTINFO_V4.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            local, interface = _PKTINFO_V6.unpack_from(data)
            return [(level, kind, _PKTINFO_V6.pack(local, interface if local.startswith(_LINK_LOCAL) else 0))]
    return []


def open_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound, non-blocking UDP socket; `0.0.0.0` is all IPv4 addresses, `::` all of both kinds. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if host in _WILDCARDS:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


class Server:
    """Runs an engine on UDP sockets: one for each listener.

        server = Server(engine)
        server.listen(Listener("main", bmc), "0.0.0.0", 623)
        await server.run()  # until cancelled

    Listeners may come and go while it runs.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sockets: dict[Listener, socket.socket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._timer_handle: asyncio.TimerHandle | None = None
        self._segments = sys.platform == "linux"
        """Whether the kernel takes two datagrams in one call; switched off when it says no."""

    def listen(self, listener: Listener, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Bind a listener's socket; returns its port (port 0 lets the system choose). Raises OSError.

        With `reuse_port` several processes share the port; the kernel keeps each client with one of them.
        """
        if listener in self._sockets:
            raise ValueError(f"listener {listener.name} listens already")
        sock = open_socket(host, port, reuse_port=reuse_port)
        self._sockets[listener] = sock
        if self._loop is not None:
            self._add_reader(self._loop, sock, listener)
        bound_port: int = sock.getsockname()[1]
        listener.public_port = listener.public_port or bound_port
        return bound_port

    def stop_listening(self, listener: Listener) -> None:
        """Close a listener's socket. Its sessions are left to time out. KeyError when it does not listen."""
        sock = self._sockets.pop(listener)
        if self._loop is not None:
            self._loop.remove_reader(sock)
        sock.close()

    async def run(self) -> None:
        """Serve until cancelled; then end all sessions, cancel the work under way, and close the sockets."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self.engine.on_wake = self._wake
                for listener, sock in self._sockets.items():
                    self._add_reader(self._loop, sock, listener)
                self._flush()
                await self._loop.create_future()
        finally:
            self._shut_down(self._loop)

    def _shut_down(self, loop: asyncio.AbstractEventLoop) -> None:
        self.engine.shut_down(loop.time())
        self._send_output()
        for handle in (self._flush_handle, self._timer_handle):
            if handle is not None:
                handle.cancel()
        for listener in list(self._sockets):
            self.stop_listening(listener)
        self._loop = self._tasks = self._flush_handle = self._timer_handle = None

    def _add_reader(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, listener: Listener) -> None:
        readable = self._readable_anywhere if sock.getsockname()[0] in _WILDCARDS else self._readable
        loop.add_reader(sock, readable, sock, listener)

    def _readable(self, sock: socket.socket, listener: Listener) -> None:
        now = self._time()
        receive = self.engine.receive
        try:
            for _ in range(_BATCH):
                datagram, peer = sock.recvfrom(_RECEIVE_SIZE)
                receive(datagram, peer, listener, now)
        except BlockingIOError:
            pass
        except OSError as error:  # an ICMP error for something sent earlier
            log.debug("receiving on %s: %s", listener.name, error)
        self._flush()

    def _readable_anywhere(self, sock: socket.socket, listener: Listener) -> None:
        """The same, for a socket that is bound to all addresses."""
        now = self._time()
        try:
            for _ in range(_BATCH):
                datagram, ancillary, _, address = sock.recvmsg(_RECEIVE_SIZE, _ANCILLARY_SIZE)
                peer = _RoutedPeer(address)
                peer.source = _source(ancillary)
                self.engine.receive(datagram, peer, listener, now)
        except BlockingIOError:
            pass
        except OSError as error:
            log.debug("receiving on %s: %s", listener.name, error)
        self._flush()

    def _wake(self) -> None:
        """The engine has something to do, or to send, that came from elsewhere than a packet."""
        if self._flush_handle is None and self._loop is not None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what is to be sent, start what is to be awaited, set the timer anew."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        self._send_output()
        if self._tasks is None or self._loop is None:
            return
        for work in self.engine.take_work():
            self._tasks.create_task(self._do(work))
        due = self.engine.next_timer()
        handle = self._timer_handle
        if handle is not None and (due is None or due != handle.when()):
            handle.cancel()
            handle = self._timer_handle = None
        if handle is None and due is not None:
            self._timer_handle = self._loop.call_at(due, self._timer_due)

    def _send_output(self) -> None:
        output = self.engine.take_output()
        count, index = len(output), 0
        while index < count:
            datagram, peer, listener = output[index]
            index += 1
            if index < count and self._segments:  # the next is often the second answer to the same bridged request
                second, second_peer, second_listener = output[index]
                alike = second_peer is peer and second_listener is listener and len(second) == len(datagram)
                if alike and self._send_two(datagram, second, peer, listener):
                    index += 1
                    continue
            self._send(datagram, peer, listener)

    def _send(self, datagram: bytes, peer: Peer, listener: Listener) -> None:
        sock = self._sockets.get(listener)
        if sock is None:
            return
        try:
            if type(peer) is _RoutedPeer:
                sock.sendmsg((datagram,), peer.source, 0, peer)
            else:
                sock.sendto(datagram, peer)
        except OSError as error:  # full buffer, no route: clients send again
            log.debug("sending on %s to %s: %s", listener.name, peer, error)

    def _send_two(self, first: bytes, second: bytes, peer: Peer, listener: Listener) -> bool:
        """Send two datagrams of one length in one call (UDP_SEGMENT, Linux 4.18): two calls cost half as much again.

        False when nothing was sent: the network device can't do it, or the kernel does not know it.
        """
        sock = self._sockets.get(listener)
        if sock is None:
            return True
        ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT.pack(len(first)))]
        if type(peer) is _RoutedPeer:
            ancillary += peer.source
        try:
            sock.sendmsg((first, second), ancillary, 0, peer)
        except BlockingIOError:
            return True  # full buffer: clients send again
        except OSError as error:
            if error.errno in {errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE}:
                log.info("sending two datagrams in one call does not work here (%s): they go one by one", error)
                self._segments = False
            return False
        return True

    def _timer_due(self) -> None:
        self._timer_handle = None
        self.engine.handle_timer(self._time())
        self._flush()

    async def _do(self, work: Work) -> None:
        result: bytes | Exception
        try:
            result = await work.awaitable
        except Exception as error:  # noqa: BLE001 - the engine turns it into a completion code
            result = error
        self.engine.finish(work, result, self._time())
        self._flush()

    def _time(self) -> float:
        return asyncio.get_running_loop().time()
