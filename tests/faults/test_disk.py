"""A disk that takes nothing: no press without a journal, nothing forgotten, and all goes on when there is room again.

The process may not make its files any larger, as on a full disk or one that has become read-only.
"""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fault_lab import POWER, Lab
from scenarios import set_power
from stack import until

pytestmark = pytest.mark.xdist_group("disk")


@contextmanager
def full_disk(lab: Lab, process: str) -> Iterator[None]:
    pid = lab.pid(process)
    assert pid is not None
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_an_agent_without_room_for_its_journal_moves_nothing(lab: Lab) -> None:
    set_power(lab, False)
    lab.simulator("presses", POWER, clear=True)
    before = lab.pid("esp8266-agent")
    with full_disk(lab, "esp8266-agent"):
        done = lab.power_command("on")
        assert done.code != 0
        assert lab.presses() == []
        assert not lab.is_on(POWER)
    until(lambda: lab.power_command("on").code == 0, 20, "commands are taken again")
    until(lambda: lab.is_on(POWER), 20, "it is on")
    lab.wait_whole(30)
    assert len(lab.presses()) == 1
    assert lab.pid("esp8266-agent") == before, "it has died of it"


def test_a_gateway_without_room_works_and_forgets_nothing(lab: Lab) -> None:
    set_power(lab, True)
    before, logged = lab.pid("ipmi-gateway"), len(lab.event_log(POWER))
    with full_disk(lab, "ipmi-gateway"):
        assert lab.power_command("off").code == 0
        until(lambda: not lab.is_on(POWER), 20, "it is off")
        until(lambda: lab.event_log(POWER)[logged:] == ["off"], 20, "the event is logged")
    assert lab.pid("ipmi-gateway") == before
    store = lab.folder / "ipmi-gateway" / "gateway.sqlite-wal"
    size = store.stat().st_size
    until(lambda: store.stat().st_size > size, 40, "it is written when there is room")
    lab.signal("ipmi-gateway", signal.SIGKILL)
    until(lambda: lab.pid("ipmi-gateway") not in {None, before}, 20)
    lab.wait_whole(30)
    assert lab.event_log(POWER)[logged:] == ["off"]
