"""One port of a board on the network: TCP for one client at a time, and UDP, the way the device's small stack does it.

Plain non-blocking sockets on the event loop instead of asyncio streams, because what matters here lies below
streams: a RST instead of a FIN, one TCP segment from two, what the peer has acknowledged, silence. Linux only
in those four; elsewhere a read counts as one segment and everything counts as acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

_LINUX: Final = sys.platform == "linux"
_TCP_INFO_SIZE: Final = 192
_TCP_CLOSE: Final = 7
_SIOCOUTQ: Final = 0x5411
_BACKLOG: Final = 16
_LINGER_RST: Final = struct.pack("ii", 1, 0)
_READ: Final = 65536
_MSS: Final = 1460
_BIND_TRIES: Final = 50

Address = tuple[str, int]


class Connection:
    """The TCP connection of a port's client."""

    def __init__(
        self,
        sock: socket.socket,
        on_data: Callable[[Connection, bytes, int], None],
        on_end: Callable[[Connection, bool], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_data = on_data
        self._on_end = on_end
        self._received = 0
        self._segments = 0
        self._unsent = bytearray()
        self._frozen = False
        self.open = True
        self.unacknowledged_at_end = 0
        self.forgotten = False
        """The device has restarted since: the next byte from here is answered with RST."""
        self.active = self._loop.time()
        """When something last went over it."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)

    def _state(self) -> tuple[int, int, int]:
        """TCP state, bytes and data segments received so far; counted in one look, so that they belong together."""
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        (received,) = struct.unpack_from("<Q", info, 128)
        (segments,) = struct.unpack_from("<I", info, 152)
        return info[0], received, segments

    def _readable(self) -> None:
        want, count = _READ, 1
        if _LINUX:
            _, received, segments = self._state()
            if received > self._received:  # exactly what those segments carried; the rest at the next call
                want = min(received - self._received, _READ)
                count = max(segments - self._segments, 1)
                self._segments = segments
        try:
            data = self._sock.recv(want)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._ended(clean=False)
            return
        if not data:
            self._ended(clean=True)
            return
        self._received += len(data)
        self.active = self._loop.time()
        self._on_data(self, data, count)

    def _ended(self, *, clean: bool) -> None:
        was_open = self.open
        self.close()
        if was_open:
            self._on_end(self, clean)

    def send(self, data: bytes) -> None:
        """Sends; what the kernel does not take at once follows when it does."""
        if not self.open or not data:
            return
        self.active = self._loop.time()
        if self._unsent or self._frozen:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # the reader sees why
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._loop.remove_writer(self._sock)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sock)

    def unacknowledged(self) -> int:
        """Bytes that were sent and not acknowledged by the peer."""
        if not self.open:
            return 0
        if not _LINUX:
            return len(self._unsent)
        import fcntl

        queued = bytearray(4)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._sock, _SIOCOUTQ, queued)
        return int.from_bytes(queued, sys.byteorder) + len(self._unsent)

    def freeze(self) -> None:
        """The network is cut: nothing is read or sent any more; the connection stays open."""
        if self.open and not self._frozen:
            self._frozen = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)

    def thaw(self) -> None:
        """The network is back: what waited gets through, unless the peer has aborted meanwhile."""
        if not self.open or not self._frozen:
            return
        self._frozen = False
        if _LINUX and self._state()[0] == _TCP_CLOSE:  # Linux would still hand out what came before the RST
            self._ended(clean=False)
            return
        self._loop.add_reader(self._sock, self._readable)
        if self._unsent:
            self._loop.add_writer(self._sock, self._writable)

    def finish(self) -> None:
        """Closes our half (FIN); reading goes on."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes in an orderly way."""
        if self.open:
            self.unacknowledged_at_end = self.unacknowledged()
            self.open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """Resets the connection (RST)."""
        if self.open:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
            self.close()


class DevicePort:
    """Listener (TCP) and datagram socket (UDP) on one port number.

    Args:
        host: address to bind.
        port: number; 0 takes a free one.
        on_accept: gets each new connection's socket.
        on_datagram: gets each datagram and where it came from.
        udp: False leaves UDP out (two file descriptors fewer for a large fleet).
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        on_accept: Callable[[socket.socket], None],
        on_datagram: Callable[[bytes, Address], None],
        udp: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_accept = on_accept
        self._on_datagram = on_datagram
        self._listener, self._udp = _bind(host, port, udp=udp)
        self.host, self.port = self._listener.getsockname()[:2]
        self._plugs: list[socket.socket] = []
        self._listening = False

    def listen(self) -> None:
        """Takes connections and datagrams."""
        if self._listening:
            return
        self._listening = True
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._acceptable)
        if self._udp is not None:
            self._discard_datagrams()
            self._loop.add_reader(self._udp, self._datagram)

    def refuse(self) -> None:
        """Refuses connections, and is deaf for datagrams; the number stays ours."""
        self.unplug()
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._listener)
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            if self._udp is not None:
                self._loop.remove_reader(self._udp)

    def plug(self) -> None:
        """Answers nothing at all: connection attempts get no reply (the backlog is full)."""
        if not self._listening or self._plugs:
            return
        self._loop.remove_reader(self._listener)
        if self._udp is not None:
            self._loop.remove_reader(self._udp)
        self._listener.listen(0)
        filler = socket.socket(self._listener.family, socket.SOCK_STREAM)
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect((self.host, self.port))
        self._plugs.append(filler)

    def unplug(self) -> None:
        """Undoes `plug`."""
        if not self._plugs:
            return
        ours = {plug.getsockname()[:2] for plug in self._plugs}
        self._listener.listen(_BACKLOG)
        waiting = []
        with contextlib.suppress(OSError):
            while True:
                sock, peer = self._listener.accept()
                if peer[:2] in ours:
                    sock.close()
                else:
                    waiting.append(sock)
        for plug in self._plugs:
            plug.close()
        self._plugs.clear()
        self._loop.add_reader(self._listener, self._acceptable)
        if self._udp is not None:
            self._discard_datagrams()
            self._loop.add_reader(self._udp, self._datagram)
        for sock in waiting:
            self._on_accept(sock)

    def close(self) -> None:
        """Gives the port back."""
        for plug in self._plugs:
            plug.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._udp is not None:
            self._loop.remove_reader(self._udp)
            self._udp.close()

    def sendto(self, data: bytes, address: Address) -> None:
        """Sends one datagram."""
        if self._udp is not None:
            with contextlib.suppress(OSError):
                self._udp.sendto(data, address)

    def _acceptable(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            self._on_accept(sock)

    def _datagram(self) -> None:
        if self._udp is None:
            return
        with contextlib.suppress(BlockingIOError, InterruptedError, ConnectionError):
            data, address = self._udp.recvfrom(_READ)
            self._on_datagram(data, (address[0], address[1]))

    def _discard_datagrams(self) -> None:
        if self._udp is None:
            return
        with contextlib.suppress(OSError):
            while True:
                self._udp.recvfrom(_READ)


def _bind(host: str, port: int, *, udp: bool) -> tuple[socket.socket, socket.socket | None]:
    """Binds both sockets to one number.

    A free number is looked for first and then bound by name: the kernel keeps a number that was asked for by
    name while the socket does not listen, and so the board's port stays its own while the board restarts.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_BIND_TRIES):
        number = port
        if number == 0:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((host, 0))
                number = probe.getsockname()[1]
        listener = socket.socket(family, socket.SOCK_STREAM)
        datagrams = socket.socket(family, socket.SOCK_DGRAM) if udp else None
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            if datagrams is not None:
                datagrams.bind((host, number))
        except OSError as error:
            listener.close()
            if datagrams is not None:
                datagrams.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
            continue
        listener.setblocking(False)
        if datagrams is not None:
            datagrams.setblocking(False)
        return listener, datagrams
    raise OSError(errno.EADDRINUSE, "no port number is free for both TCP and UDP")


def split_segments(data: bytes, count: int) -> list[bytes]:
    """Best guess at the segments that one read of `count` segments was made of.

    The kernel does not tell where one ended; line ends do, for commands. A single segment stays whole,
    whatever is in it.
    """
    if count <= 1 or -(-len(data) // _MSS) >= count:
        return [data]
    parts = data.splitlines(keepends=True)
    if len(parts) <= 1:
        return [data]
    if len(parts) > count:
        parts = [*parts[: count - 1], b"".join(parts[count - 1 :])]
    return parts
