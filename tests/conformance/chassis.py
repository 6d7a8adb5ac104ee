"""Chassis commands (section 28) but for the boot options."""

import time

from rmcp_client import IPMI, USER, message

from .bmc import Bmc, bridge_message
from .case import Group, case
from .codes import (
    APP,
    BAD_LENGTH,
    BAD_VALUE,
    CAPABILITIES,
    CHASSIS,
    CONTROL,
    CYCLE,
    DIAG,
    IDENTIFY,
    INVALID_FIELD,
    OFF,
    ON,
    POH,
    PRIVILEGE,
    RESET,
    RESTART_CAUSE,
    RESTORE_POLICY,
    SEND_MESSAGE,
    SOFT,
    STATE,
    STATUS,
)
from .power import control, is_on, make, pressed, rest, status, wait

QUICK = 0.7
"""Seconds in which an answer must come."""
BY_COMMAND = 1
"""Restart cause: Chassis Control."""


@case(Group.CHASSIS)
def status_form(bmc: Bmc) -> None:
    """Get Chassis Status: three or four octets, reserved bits zero, no fault, a restore policy that exists."""
    data = status(bmc.console())
    assert not data[0] & 0x80, "reserved bit 7"
    assert data[0] >> 5 & 3 <= 2, "restore policy"
    assert not data[0] & 0x1E, f"faults {data[0]:02x}h"
    assert not data[1] & 0xE0, "reserved bits of the last power event"
    assert not data[2] & 0x80, "reserved bit of the misc state"


@case(Group.CHASSIS)
def status_at_user(bmc: Bmc) -> None:
    """Get Chassis Status works at USER."""
    assert bmc.console(level=USER).code(CHASSIS, STATUS) == 0


@case(Group.CHASSIS)
def status_length(bmc: Bmc) -> None:
    """Get Chassis Status with data is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, CHASSIS, STATUS, 0)


@case(Group.CHASSIS)
def capabilities(bmc: Bmc) -> None:
    """Get Chassis Capabilities: flags and four or five addresses, which are the controller's own."""
    data = bmc.console().ok(CHASSIS, CAPABILITIES)
    assert len(data) in (5, 6), f"{len(data)} octets"
    own = 0x20 if bmc.target is None else bmc.target
    assert set(data[1:5]) <= {own, 0}, f"addresses {data[1:].hex()}"


# --- Chassis Control ---


@case(Group.CHASSIS, needs="power")
def power_on(bmc: Bmc) -> None:
    """Chassis Control on: answered at once, the machine is on, by one press."""
    console = make(bmc, on=False)
    before = pressed(bmc)
    started = time.monotonic()
    console.expect(0, CHASSIS, CONTROL, ON)
    seconds = time.monotonic() - started
    assert seconds < QUICK, f"the answer took {seconds:.2f} s"
    wait(console, on=True)
    rest(console)
    if bmc.presses:
        assert pressed(bmc) == before + 1, f"{pressed(bmc) - before} presses"


@case(Group.CHASSIS, needs="power")
def power_on_when_on(bmc: Bmc) -> None:
    """Chassis Control on of a machine that is on is done, and presses nothing."""
    console = make(bmc, on=True)
    before = pressed(bmc)
    for _ in range(3):
        console.expect(0, CHASSIS, CONTROL, ON)
    time.sleep(0.3)
    assert is_on(console)
    assert pressed(bmc) == before, "the button was pressed"


@case(Group.CHASSIS, needs="power")
def power_off(bmc: Bmc) -> None:
    """Chassis Control off: answered at once, and the machine is off."""
    console = make(bmc, on=True)
    started = time.monotonic()
    console.expect(0, CHASSIS, CONTROL, OFF)
    seconds = time.monotonic() - started
    assert seconds < QUICK, f"the answer took {seconds:.2f} s"
    wait(console, on=False)


@case(Group.CHASSIS, needs="power")
def power_off_when_off(bmc: Bmc) -> None:
    """Chassis Control off of a machine that is off is done, and presses nothing."""
    console = make(bmc, on=False)
    before = pressed(bmc)
    for _ in range(3):
        console.expect(0, CHASSIS, CONTROL, OFF)
    time.sleep(0.3)
    assert not is_on(console)
    assert pressed(bmc) == before, "the button was pressed"


@case(Group.CHASSIS, needs="power")
def power_soft(bmc: Bmc) -> None:
    """Chassis Control soft-off: the operating system shuts down, and the machine is off."""
    console = make(bmc, on=True)
    console.expect(0, CHASSIS, CONTROL, SOFT)
    wait(console, on=False)


@case(Group.CHASSIS, needs="power")
def power_soft_when_off(bmc: Bmc) -> None:
    """Chassis Control soft-off of a machine that is off does not switch it on: done, or D5h."""
    console = make(bmc, on=False)
    console.expect({0, STATE}, CHASSIS, CONTROL, SOFT)
    time.sleep(0.5)
    assert not is_on(console), "it is on"


@case(Group.CHASSIS, needs="power")
def power_cycle(bmc: Bmc) -> None:
    """Chassis Control cycle of a machine that is on: off for a while, and on again."""
    console = make(bmc, on=True)
    console.expect(0, CHASSIS, CONTROL, CYCLE)
    if bmc.presses:
        wait(console, on=False)
    wait(console, on=True)
    rest(console)
    assert is_on(console)


@case(Group.CHASSIS, needs="power")
def power_cycle_when_off(bmc: Bmc) -> None:
    """Chassis Control cycle of a machine that is off: done, or D5h."""
    console = make(bmc, on=False)
    console.expect({0, STATE}, CHASSIS, CONTROL, CYCLE)


@case(Group.CHASSIS, needs="power")
def power_reset(bmc: Bmc) -> None:
    """Chassis Control reset: the machine starts anew, and is on."""
    console = make(bmc, on=True)
    console.expect(0, CHASSIS, CONTROL, RESET)
    time.sleep(0.2)
    wait(console, on=True)
    rest(console)
    assert is_on(console)


@case(Group.CHASSIS, needs="power diag")
def power_diag(bmc: Bmc) -> None:
    """Chassis Control diagnostic interrupt: done, and the machine stays on."""
    console = make(bmc, on=True)
    console.expect(0, CHASSIS, CONTROL, DIAG)
    time.sleep(0.2)
    assert is_on(console)
    rest(console)


@case(Group.CHASSIS, each={hex(action): action for action in (6, 7, 8, 0x0F, 0x10, 0x80, 0xFF)})
def control_unknown_action(bmc: Bmc, action: int) -> None:
    """Chassis Control with an unknown action is answered CCh."""
    before = pressed(bmc)
    bmc.console().expect(INVALID_FIELD, CHASSIS, CONTROL, action)
    assert pressed(bmc) == before, "the button was pressed"


@case(Group.CHASSIS, each={"empty": (), "two octets": (1, 0)})
def control_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Chassis Control of a wrong length is answered C7h, and does nothing."""
    before = pressed(bmc)
    bmc.console().expect({0xC7} if not data else BAD_LENGTH, CHASSIS, CONTROL, *data)
    assert pressed(bmc) == before, "the button was pressed"


@case(Group.CHASSIS, each={"off": OFF, "on": ON, "cycle": CYCLE, "reset": RESET, "diag": DIAG, "soft": SOFT})
def control_needs_operator(bmc: Bmc, action: int) -> None:
    """Chassis Control takes an operator: D4h at USER, and nothing is pressed."""
    before = pressed(bmc)
    bmc.console(level=USER).expect(PRIVILEGE, CHASSIS, CONTROL, action)
    assert pressed(bmc) == before, "the button was pressed"


@case(Group.CHASSIS, needs="operator power")
def control_as_operator(bmc: Bmc) -> None:
    """An operator's account may switch."""
    console = bmc.console(bmc.operator)
    console.expect(0, CHASSIS, CONTROL, ON if is_on(console) else OFF)


@case(Group.CHASSIS, needs="power presses")
def repeat_does_not_press_twice(bmc: Bmc) -> None:
    """The same Chassis Control sent again (same rqSeq) is answered again, and presses once."""
    console = make(bmc, on=False)
    client = console.client
    before = pressed(bmc)
    sequence = client._next_rq()
    if bmc.target is None:
        raw, wanted = message(CHASSIS, CONTROL, bytes((ON,)), sequence=sequence), 1
    else:
        raw = bridge_message(bmc.channel, bmc.target, CHASSIS, CONTROL, bytes((ON,)), sequence=sequence)
        wanted = 2
    for _ in range(4):
        client.send(client.seal(IPMI, raw))
        answers = []
        for _ in range(wanted):
            answer = client.receive_answer()
            assert answer is not None, "a repeat is not answered"
            answers.append(answer)
        assert [answer.code for answer in answers] == [0] * wanted, "a repeat is refused"
        assert answers[-1].command == CONTROL
        assert wanted == 1 or answers[0].command == SEND_MESSAGE
    wait(console, on=True)
    rest(console)
    assert pressed(bmc) == before + 1, f"{pressed(bmc) - before} presses"


@case(Group.CHASSIS, needs="power presses")
def repeat_while_in_work(bmc: Bmc) -> None:
    """The same Chassis Control sent five times at once presses once, and gets an answer."""
    console = make(bmc, on=False)
    client = console.client
    before = pressed(bmc)
    sequence = client._next_rq()
    if bmc.target is None:
        raw = message(CHASSIS, CONTROL, bytes((ON,)), sequence=sequence)
    else:
        raw = bridge_message(bmc.channel, bmc.target, CHASSIS, CONTROL, bytes((ON,)), sequence=sequence)
    for _ in range(5):
        client.send(client.seal(IPMI, raw))
    answers = list(iter(lambda: client.receive_answer(0.4), None))
    assert any(answer.command == CONTROL and answer.code == 0 for answer in answers), "no answer"
    wait(console, on=True)
    rest(console)
    assert pressed(bmc) == before + 1, f"{pressed(bmc) - before} presses"


@case(Group.CHASSIS, needs="power")
def same_sequence_other_action(bmc: Bmc) -> None:
    """The same rqSeq with other data is a new request: off after on is done."""
    console = make(bmc, on=True)
    client = console.client
    client.rq_sequence = 20
    console.expect(0, CHASSIS, CONTROL, ON)
    client.rq_sequence = 20
    console.expect(INVALID_FIELD, CHASSIS, CONTROL, 0x0F)
    client.rq_sequence = 20
    assert console.ok(APP, 0x01)


@case(Group.CHASSIS, needs="power")
def restart_cause(bmc: Bmc) -> None:
    """Get System Restart Cause after a start by command: Chassis Control, and the channel."""
    console = make(bmc, on=False)
    assert control(console, ON) == 0
    wait(console, on=True)
    data = console.ok(CHASSIS, RESTART_CAUSE)
    assert len(data) == 2, f"{len(data)} octets"
    assert data[0] & 0x0F == BY_COMMAND, f"cause {data[0] & 15}"
    rest(console)


@case(Group.CHASSIS)
def restart_cause_form(bmc: Bmc) -> None:
    """Get System Restart Cause: two octets, a cause that exists."""
    data = bmc.console(level=USER).ok(CHASSIS, RESTART_CAUSE)
    assert len(data) == 2, f"{len(data)} octets"
    assert data[0] <= 0x0B, f"cause {data[0]:02x}h"


@case(Group.CHASSIS, needs="power")
def last_power_event(bmc: Bmc) -> None:
    """Get Chassis Status says, after an on by command, that the last power-on was by command."""
    console = make(bmc, on=False)
    assert control(console, ON) == 0
    wait(console, on=True)
    assert status(console)[1] & 0x10, f"last power event {status(console)[1]:02x}h"
    rest(console)


# --- identify, restore policy, counters ---


IDENTIFIES = {"default": (), "5 s": (5,), "255 s": (255,), "off": (0,), "with flags": (5, 0), "force": (0, 1)}


@case(Group.CHASSIS, needs="identify", each=IDENTIFIES)
def identify(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Chassis Identify in each form is answered with a code only."""
    console = bmc.console()
    try:
        assert console.ok(CHASSIS, IDENTIFY, *data) == b"", "data in the answer"
    finally:
        console.code(CHASSIS, IDENTIFY, 0)


@case(Group.CHASSIS, needs="identify")
def identify_state(bmc: Bmc) -> None:
    """Get Chassis Status shows the identify state where it says that it does: off, timed, indefinite."""
    console = bmc.console()
    if not status(console)[2] & 0x40:
        return
    for data, wanted in (((5,), 1), ((0, 1), 2), ((0,), 0)):
        console.expect(0, CHASSIS, IDENTIFY, *data)
        deadline = time.monotonic() + 5
        while (seen := status(console)[2] >> 4 & 3) != wanted:
            assert time.monotonic() < deadline, f"after {data}: state {seen}, expected {wanted}"
            time.sleep(0.05)


@case(Group.CHASSIS, needs="identify")
def identify_ends(bmc: Bmc) -> None:
    """Chassis Identify for one second is over after that."""
    console = bmc.console()
    console.expect(0, CHASSIS, IDENTIFY, 1)
    deadline = time.monotonic() + 6
    while status(console)[2] >> 4 & 3:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)


@case(Group.CHASSIS, each={"three octets": (1, 0, 0), "four octets": (1, 0, 0, 0)})
def identify_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Chassis Identify of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, CHASSIS, IDENTIFY, *data)


@case(Group.CHASSIS)
def identify_needs_operator(bmc: Bmc) -> None:
    """Chassis Identify takes an operator."""
    bmc.console(level=USER).expect(PRIVILEGE, CHASSIS, IDENTIFY, 1)


@case(Group.CHASSIS)
def restore_policy(bmc: Bmc) -> None:
    """Set Power Restore Policy: each one that is said to be supported is set, and read back in the status."""
    console = bmc.console()
    present = status(console)[0] >> 5 & 3
    supported = console.ok(CHASSIS, RESTORE_POLICY, 3)
    assert len(supported) == 1 and supported[0] & 7, "no policy is supported"
    try:
        for policy in range(3):
            if supported[0] >> policy & 1:
                console.ok(CHASSIS, RESTORE_POLICY, policy)
                seen = status(console)[0] >> 5 & 3
                assert seen == policy, f"policy {policy} set, {seen} read"
        console.ok(CHASSIS, RESTORE_POLICY, 3)
        assert status(console)[0] >> 5 & 3 == seen, "3 (no change) has changed it"
    finally:
        console.code(CHASSIS, RESTORE_POLICY, present)


@case(Group.CHASSIS, each={"4": 4, "7": 7, "0x08": 8})
def restore_policy_unknown(bmc: Bmc, policy: int) -> None:
    """Set Power Restore Policy to one that is none is refused."""
    bmc.console().expect(BAD_VALUE, CHASSIS, RESTORE_POLICY, policy)


@case(Group.CHASSIS, each={"empty": (), "two octets": (3, 0)})
def restore_policy_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Set Power Restore Policy of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, CHASSIS, RESTORE_POLICY, *data)


@case(Group.CHASSIS)
def restore_policy_needs_operator(bmc: Bmc) -> None:
    """Set Power Restore Policy takes an operator."""
    bmc.console(level=USER).expect(PRIVILEGE, CHASSIS, RESTORE_POLICY, 1)


@case(Group.CHASSIS)
def power_on_hours(bmc: Bmc) -> None:
    """Get POH Counter: minutes per count, and a counter that does not go back."""
    console = bmc.console(level=USER)
    first = console.ok(CHASSIS, POH)
    assert len(first) == 5 and first[0], first.hex()
    second = console.ok(CHASSIS, POH)
    assert int.from_bytes(second[1:], "little") >= int.from_bytes(first[1:], "little"), "it went back"
