"""What is broken, and in the middle of what."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fault_lab import LINKS, POWER, PROCESSES, SERVICES, Lab
from proxy import CLEAR, Line, Weather

LOSSY_TCP = Weather(delay=0.05, loss=0.1, retransmission=0.8)
LOSSY_UDP = Weather(delay=0.02, loss=0.2, duplication=0.2, reordering=0.2)
AWAY = 3.0
"""Seconds that a line or a process is away."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a line or a process.

    `strike` breaks it; `heal` is what happens when the outside world is as it should be again, `lasts` seconds later.
    From `heal` on the fleet must come back by itself.
    """

    where: str
    what: str
    strike: Callable[[Lab], None] = field(compare=False)
    heal: Callable[[Lab], None] = field(compare=False)
    lasts: float = AWAY

    @property
    def name(self) -> str:
        return f"{self.where}: {self.what}"


def _nothing(_lab: Lab) -> None:
    pass


def link_faults(link: str) -> Iterator[Fault]:
    """What can happen to a line."""

    def spoil(weather: Weather) -> Callable[[Lab], None]:
        return lambda lab: lab.weather(link, weather)

    def forget(lab: Lab) -> None:
        lab.drop_connections(link)
        lab.weather(link, CLEAR)

    udp = link == "client-gateway"
    yield Fault(link, "bad line", spoil(LOSSY_UDP if udp else LOSSY_TCP), spoil(CLEAR))
    yield Fault(link, "cut", spoil(Weather(line=Line.CUT)), spoil(CLEAR))
    if not udp:
        yield Fault(link, "reset", lambda lab: lab.drop_connections(link), _nothing, 0.0)
        yield Fault(link, "silent, then what was sent arrives", spoil(Weather(line=Line.SILENT)), spoil(CLEAR))
        yield Fault(link, "silent, then dead", spoil(Weather(line=Line.SILENT)), forget)


def process_faults(process: str) -> Iterator[Fault]:
    """What can happen to a process."""
    for what, number in (("killed", signal.SIGKILL), ("restarted", signal.SIGTERM)):
        yield Fault(process, what, lambda lab, number=number: lab.signal(process, number), _nothing, 0.0)  # type: ignore[misc]
    yield Fault(
        process,
        "paused",
        lambda lab: lab.signal(process, signal.SIGSTOP),
        lambda lab: lab.signal(process, signal.SIGCONT),
    )


def board_faults() -> Iterator[Fault]:
    """What can happen to the boards."""

    def both(op: str, **fields: object) -> Callable[[Lab], None]:
        def do(lab: Lab) -> None:
            for node in ("power", "console"):
                lab.simulator(op, node, **fields)

        return do

    yield Fault("boards", "restarted", both("reboot"), _nothing, 0.0)
    yield Fault("boards", "hung", both("faults", hung=True), both("faults", hung=False))


def all_faults() -> list[Fault]:
    """Everything, in the order of the table."""
    faults = [fault for link in LINKS for fault in link_faults(link)]
    faults += [fault for process in PROCESSES for fault in process_faults(process)]
    return [*faults, *board_faults()]


PHASES = ("switching on", "forcing off", "console", "start-up", "reload")

_SERVICE_OF_LINK = {
    "client-gateway": "ipmi-gateway",
    "gateway-broker": "ipmi-gateway",
    "agent-broker": "esp8266-agent",
    "relay-broker": "sol-relay",
    "agent-board": "esp8266-agent",
    "relay-board": "sol-relay",
    "boards": "esp8266-agent",
}


def set_power(lab: Lab, on: bool) -> None:
    """Bring the machine into a state by hand, and wait until that is known."""
    if lab.is_on(POWER) is not on:
        if on:
            lab.simulator("press", POWER, seconds=0.2)
        else:
            lab.simulator("unplug", POWER)
            lab.simulator("plug", POWER)
    lab.wait_whole(20)


def restart_end_of(lab: Lab, fault: Fault) -> None:
    """Restart the service that has to do with the fault; returns when the new process is there, and has not got far."""
    process = _SERVICE_OF_LINK.get(fault.where, fault.where)
    before = lab.pid(process)
    lab.signal(process, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while lab.pid(process) in {None, before}:
        assert time.monotonic() < deadline, f"{process} did not start again"
        time.sleep(0.01)


def reload_all(lab: Lab) -> None:
    """Change the fleet and tell all services."""
    lab.name = "second" if lab.name == "first" else "first"
    lab.write_fleet()
    for service in SERVICES:
        lab.signal(service, signal.SIGHUP)


def moment(phase: str, rng: random.Random) -> float:
    """How long after a phase has begun the fault strikes: somewhere in the middle of what is under way, in seconds."""
    longest = {"switching on": 1.3, "forcing off": 4.0, "console": 1.0, "start-up": 0.8, "reload": 0.1}[phase]
    return rng.uniform(0.0, longest)
