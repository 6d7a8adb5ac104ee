"""An engine with a clock and a network of our own, and a small table of commands, for tests without sockets."""

from collections import deque
from collections.abc import Callable

from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.directory import Directory, Listener
from ipmi_gateway.engine import Engine, Work
from ipmi_gateway.events import Event
from ipmi_gateway.sessions.session import Peer
from ipmi_gateway.sessions.users import User, Users
from ipmi_gateway.settings import GatewaySettings

USERS = (
    User("admin", b"secret"),
    User("oper", b"operpass", Privilege.OPERATOR, ("node1", "rack2-*"), 3),
    User("viewer", b"viewpass", Privilege.USER, None, 4),
    User("callback", b"backpass", Privilege.CALLBACK, None, 5),
    User("long", b"01234567890123456789", Privilege.ADMINISTRATOR, None, 6),
)
CHASSIS_STATUS = 0x01
CHASSIS_CONTROL = 0x02
GET_DEVICE_ID = 0x01
COUNT = 0x70
"""Answers how often it was done."""
CRASH = 0x71


class Harness:
    """The engine under test, and what came out of it."""

    def __init__(self, settings: GatewaySettings | None = None, users: tuple[User, ...] = USERS) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.requests: list[Request] = []
        self.counter = 0
        self.fleet = Fleet()
        self.gateway = Bmc.create(self.fleet)
        self.directory = Directory()
        for channel, address, node in (
            (0, 0x01, "node1"),
            (0, 0x30, "node2"),
            (0, 0xFF, "rack2-a"),
            (2, 0x05, "far"),
            (11, 0x01, "last"),
        ):
            self.directory.add(channel, address, Bmc.create(self.fleet, node, address=address, channel=channel))
        self.main = Listener("main", self.gateway)
        self.node1 = Listener("node1", self.directory.find(0, 1).view(), bridging=False)  # type: ignore[union-attr]
        self.users = Users(users)
        self.engine = Engine(
            self.directory, self.users, self.commands(), settings or GatewaySettings(), on_event=self.events.append
        )
        self.inboxes: dict[tuple[Peer, Listener], deque[bytes]] = {}
        self.work: list[Work] = []

    def commands(self) -> Registry:
        table = Registry()

        @table.add(NetFn.APP, GET_DEVICE_ID, Privilege.USER)
        def get_device_id(request: Request) -> bytes:
            self.requests.append(request)
            return bytes((request.bmc.address, 0x81, 1, 0, 2, 0x80, 0, 0, 0, 0, 0))

        @table.add(NetFn.CHASSIS, CHASSIS_STATUS, Privilege.USER)
        def chassis_status(request: Request) -> bytes:
            self.requests.append(request)
            return b"\x01\x00\x00"

        @table.add(NetFn.CHASSIS, CHASSIS_CONTROL, Privilege.OPERATOR, 1, changes=True)
        async def chassis_control(request: Request) -> bytes:
            self.requests.append(request)
            if request.data == b"\x0f":
                raise CompletionError(Code.INVALID_FIELD)
            return b""

        @table.add(NetFn.OEM_GROUP, COUNT, Privilege.USER, (0, 200))
        def count(request: Request) -> bytes:
            self.counter += 1
            return bytes((self.counter & 0xFF,)) + request.data

        @table.add(NetFn.OEM_GROUP, CRASH, Privilege.USER, (0, 1))
        def crash(request: Request) -> bytes:
            raise ZeroDivisionError

        return table

    def deliver(self, datagram: bytes, peer: Peer, listener: Listener) -> None:
        self.engine.receive(datagram, peer, listener, self.now)
        self.collect()

    def collect(self) -> None:
        self.work += self.engine.take_work()
        for datagram, peer, listener in self.engine.take_output():
            self.inboxes.setdefault((peer, listener), deque()).append(datagram)

    def finish_work(self) -> int:
        """Await all that is to be awaited (nothing in these tests really waits); returns how much there was."""
        done = 0
        while self.work:
            work = self.work.pop(0)
            result: bytes | Exception
            try:
                work.awaitable.send(None)  # type: ignore[attr-defined]
                raise AssertionError("it waits")
            except StopIteration as stop:
                result = stop.value
            except CompletionError as error:
                result = error
            self.engine.finish(work, result, self.now)
            self.collect()
            done += 1
        return done

    def advance(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, timers and all, but no longer than until something is so."""
        end = self.now + seconds
        while (due := self.engine.next_timer()) is not None and due <= end:
            if until():
                return
            self.now = max(self.now, due)
            self.engine.handle_timer(self.now)
            self.collect()
        if not until():
            self.now = end

    def transport(self, peer: Peer = ("192.0.2.1", 40000), listener: Listener | None = None) -> "EngineTransport":
        return EngineTransport(self, peer, listener or self.main)


class EngineTransport:
    """What a test client talks through instead of a socket. A wait lets the harness's clock pass."""

    def __init__(self, harness: Harness, peer: Peer, listener: Listener, *, finish: bool = True) -> None:
        self.harness = harness
        self.peer = peer
        self.listener = listener
        self.finish = finish
        """Whether waiting for an answer lets the handlers under way finish."""

    def send(self, datagram: bytes) -> None:
        self.harness.deliver(datagram, self.peer, self.listener)

    def receive(self, timeout: float) -> bytes | None:
        inbox = self.harness.inboxes.setdefault((self.peer, self.listener), deque())
        if not inbox and self.finish:
            self.harness.finish_work()
        if not inbox:
            self.harness.advance(timeout, until=lambda: bool(inbox))
        return inbox.popleft() if inbox else None

    def close(self) -> None:
        pass
