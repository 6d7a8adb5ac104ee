"""System boot options (sections 28.12 and 28.13)."""

import time

from rmcp_client import USER

from .bmc import Bmc, Console
from .case import Group, case
from .codes import BAD_LENGTH, BAD_VALUE, CHASSIS, CONTROL, GET_BOOT, ON, OUT_OF_RANGE, PRIVILEGE, RESET, SET_BOOT
from .power import make, rest, wait

PROGRESS, CLEARING, ACKNOWLEDGE, FLAGS, INITIATOR, MAILBOX = 0, 3, 4, 5, 6, 7
VALID, PERSISTENT, EFI = 0x80, 0x40, 0x20
UNKNOWN_PARAMETER, IN_PROGRESS, READ_ONLY = 0x80, 0x81, 0x82
NO_TIMEOUT = 0x08
SELECTORS = {"none": 0x00, "PXE": 0x04, "disk": 0x08, "safe": 0x0C, "diagnostics": 0x10, "CD": 0x14, "BIOS": 0x18}


def read(console: Console, parameter: int, selector: int = 0) -> bytes:
    """The data of a parameter."""
    data = console.ok(CHASSIS, GET_BOOT, parameter, selector, 0)
    assert data[0] & 0x0F == 1, f"parameter version {data[0]:02x}h"
    assert data[1] & 0x7F == parameter, f"parameter {data[1] & 0x7F}, asked for {parameter}"
    return data[2:]


def ready(bmc: Bmc) -> Console:
    """A session, with the options as at the start: nothing set, no lock, validity timer on."""
    console = bmc.console()
    clean(console)
    return console


def clean(console: Console) -> None:
    console.code(CHASSIS, SET_BOOT, PROGRESS, 0)
    console.code(CHASSIS, SET_BOOT, CLEARING, 0)
    console.code(CHASSIS, SET_BOOT, FLAGS, 0, 0, 0, 0, 0)


COMBINATIONS = {
    f"{device}{', persistent' * bool(first & PERSISTENT)}{', EFI' * bool(first & EFI)}": (VALID | first, selector)
    for device, selector in SELECTORS.items()
    for first in (0, PERSISTENT, EFI, PERSISTENT | EFI)
    if device in {"PXE", "disk", "BIOS"} or first in {0, PERSISTENT}
}


@case(Group.CHASSIS, each=COMBINATIONS)
def flags_read_back(bmc: Bmc, item: tuple[int, int]) -> None:
    """Boot flags are stored bit for bit and read back: valid, persistent, EFI, device."""
    console = ready(bmc)
    try:
        console.expect(0, CHASSIS, SET_BOOT, FLAGS, *item, 0, 0, 0)
        seen = read(console, FLAGS)
        assert len(seen) == 5, f"{len(seen)} octets"
        assert seen[:2] == bytes(item), f"{bytes(item).hex()} set, {seen.hex()} read"
    finally:
        clean(console)


@case(Group.CHASSIS)
def flags_other_octets(bmc: Bmc) -> None:
    """The other octets of the boot flags (verbosity, overrides) are stored too."""
    console = ready(bmc)
    try:
        console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID, 0x84, 0x42, 0x01, 0x00)
        assert read(console, FLAGS).hex() == "8084420100", read(console, FLAGS).hex()
    finally:
        clean(console)


@case(Group.CHASSIS)
def flags_invalidated(bmc: Bmc) -> None:
    """Boot flags written without the valid bit are not valid."""
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID, 4, 0, 0, 0)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, 0, 0, 0, 0, 0)
    assert not read(console, FLAGS)[0] & VALID


@case(Group.CHASSIS)
def flags_of_ironic(bmc: Bmc) -> None:
    """Ironic's order: parameter 3 to 08h, then EFI flags: both are read back."""
    console = ready(bmc)
    try:
        console.expect(0, CHASSIS, SET_BOOT, CLEARING, NO_TIMEOUT)
        console.expect(0, CHASSIS, SET_BOOT, FLAGS, 0xE0, 0x04, 0, 0, 0)
        assert read(console, FLAGS).hex() == "e004000000"
        assert read(console, CLEARING)[0] & 0x1F == NO_TIMEOUT, read(console, CLEARING).hex()
    finally:
        clean(console)


@case(Group.CHASSIS, needs="power")
def one_shot_is_used_up(bmc: Bmc) -> None:
    """A one-shot boot device is used up by the next power-on."""
    make(bmc, on=False)
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID, 4, 0, 0, 0)
    console.expect(0, CHASSIS, CONTROL, ON)
    wait(console, on=True)
    rest(console)
    _wait_invalid(console)


@case(Group.CHASSIS, needs="power")
def one_shot_is_used_up_by_reset(bmc: Bmc) -> None:
    """A one-shot boot device is used up by the next reset."""
    make(bmc, on=True)
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID | EFI, 4, 0, 0, 0)
    console.expect(0, CHASSIS, CONTROL, RESET)
    time.sleep(0.3)
    wait(console, on=True)
    rest(console)
    _wait_invalid(console)


def _wait_invalid(console: Console) -> None:
    deadline = time.monotonic() + 8
    while read(console, FLAGS)[0] & VALID:
        assert time.monotonic() < deadline, f"still {read(console, FLAGS).hex()}"
        time.sleep(0.1)


@case(Group.CHASSIS, needs="power")
def persistent_stays(bmc: Bmc) -> None:
    """A persistent boot device stays over a power-on."""
    make(bmc, on=False)
    console = ready(bmc)
    try:
        console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID | PERSISTENT, 8, 0, 0, 0)
        console.expect(0, CHASSIS, CONTROL, ON)
        wait(console, on=True)
        rest(console)
        assert read(console, FLAGS)[:2] == bytes((VALID | PERSISTENT, 8)), read(console, FLAGS).hex()
    finally:
        clean(console)


@case(Group.CHASSIS, slow=True)
def validity_ends(bmc: Bmc) -> None:
    """The valid bit is cleared after 60 s; with parameter 3's bit 3 it stays."""
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID, 4, 0, 0, 0)
    time.sleep(54)
    assert read(console, FLAGS)[0] & VALID, "cleared before 60 s"
    time.sleep(12)
    assert not read(console, FLAGS)[0] & VALID, "still valid after 66 s"
    console.expect(0, CHASSIS, SET_BOOT, CLEARING, NO_TIMEOUT)
    console.expect(0, CHASSIS, SET_BOOT, FLAGS, VALID, 4, 0, 0, 0)
    for _ in range(3):
        time.sleep(22)
        assert read(console, FLAGS)[0] & VALID, "cleared although the time-out is disabled"
    clean(console)


@case(Group.CHASSIS, each={"8": 8, "20": 20, "95": 95, "127": 127})
def parameter_unknown(bmc: Bmc, parameter: int) -> None:
    """A boot option parameter that does not exist is answered 80h, by Get and by Set."""
    console = ready(bmc)
    console.expect(UNKNOWN_PARAMETER, CHASSIS, GET_BOOT, parameter, 0, 0)
    console.expect(UNKNOWN_PARAMETER, CHASSIS, SET_BOOT, parameter, 0)


@case(Group.CHASSIS)
def set_in_progress(bmc: Bmc) -> None:
    """Parameter 0 is a lock: 81h to a second "set in progress" until "set complete"."""
    console = ready(bmc)
    other = bmc.console()
    try:
        assert read(console, PROGRESS)[0] & 3 == 0
        console.expect(0, CHASSIS, SET_BOOT, PROGRESS, 1)
        assert read(other, PROGRESS)[0] & 3 == 1
        other.expect(IN_PROGRESS, CHASSIS, SET_BOOT, PROGRESS, 1)
        console.expect(0, CHASSIS, SET_BOOT, PROGRESS, 0)
        assert read(console, PROGRESS)[0] & 3 == 0
        other.expect(0, CHASSIS, SET_BOOT, PROGRESS, 1)
    finally:
        clean(console)


@case(Group.CHASSIS)
def set_in_progress_bad(bmc: Bmc) -> None:
    """Parameter 0 with a value that is none is refused."""
    console = ready(bmc)
    console.expect(BAD_VALUE, CHASSIS, SET_BOOT, PROGRESS, 3)


@case(Group.CHASSIS)
def acknowledge(bmc: Bmc) -> None:
    """Parameter 4, info acknowledge: write mask and data; the mask reads as zero."""
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, ACKNOWLEDGE, 0xFF, 0x00)
    assert read(console, ACKNOWLEDGE)[1] == 0
    console.expect(0, CHASSIS, SET_BOOT, ACKNOWLEDGE, 0x01, 0x01)
    seen = read(console, ACKNOWLEDGE)
    assert len(seen) == 2 and seen[1] & 0x01, seen.hex()
    console.expect(0, CHASSIS, SET_BOOT, ACKNOWLEDGE, 0x02, 0x02)
    assert read(console, ACKNOWLEDGE)[1] & 3 == 3, "a bit that is not in the mask was changed"
    console.expect(0, CHASSIS, SET_BOOT, ACKNOWLEDGE, 0x1F, 0x00)
    assert read(console, ACKNOWLEDGE)[1] & 0x1F == 0


@case(Group.CHASSIS)
def initiator_info(bmc: Bmc) -> None:
    """Parameter 6, initiator info: nine octets, stored or at least readable."""
    console = ready(bmc)
    assert len(read(console, INITIATOR)) == 9


@case(Group.CHASSIS)
def mailbox(bmc: Bmc) -> None:
    """Parameter 7, initiator mailbox: blocks are stored and read back by selector."""
    console = ready(bmc)
    for block in (0, 1):
        data = bytes(range(block, block + 16))
        console.expect(0, CHASSIS, SET_BOOT, MAILBOX, block, *data)
        assert read(console, MAILBOX, block) == bytes((block,)) + data
    console.expect({OUT_OF_RANGE, 0xCC}, CHASSIS, GET_BOOT, MAILBOX, 200, 0)


@case(Group.CHASSIS)
def parameter_lock_bit(bmc: Bmc) -> None:
    """The "parameter invalid" bit is stored and read back."""
    console = ready(bmc)
    console.expect(0, CHASSIS, SET_BOOT, 0x80 | CLEARING)
    assert console.ok(CHASSIS, GET_BOOT, CLEARING, 0, 0)[1] & 0x80, "not marked"
    console.expect(0, CHASSIS, SET_BOOT, CLEARING, 0)
    assert not console.ok(CHASSIS, GET_BOOT, CLEARING, 0, 0)[1] & 0x80, "still marked"


@case(Group.CHASSIS, each={"flags short": (5, 0x80, 4), "flags long": (5, 0x80, 4, 0, 0, 0, 0), "empty": ()})
def set_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Set System Boot Options of a wrong length is answered C7h (or CCh), and changes nothing."""
    console = ready(bmc)
    console.expect(BAD_LENGTH, CHASSIS, SET_BOOT, *data)
    assert not read(console, FLAGS)[0] & VALID, "it was stored"


@case(Group.CHASSIS, each={"empty": (), "one octet": (5,), "four octets": (5, 0, 0, 0)})
def get_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Get System Boot Options of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, CHASSIS, GET_BOOT, *data)


@case(Group.CHASSIS)
def needs_operator(bmc: Bmc) -> None:
    """Boot options take an operator."""
    console = bmc.console(level=USER)
    console.expect(PRIVILEGE, CHASSIS, SET_BOOT, FLAGS, VALID, 4, 0, 0, 0)


BOOTDEV = {
    "pxe": "Force PXE",
    "disk": "Force Boot from default Hard-Drive",
    "bios": "BIOS Setup",
    "cdrom": "CD/DVD",
    "safe": "Safe-Mode",
    "none": "No override",
}


@case(Group.CHASSIS, each={word: word for word in BOOTDEV})
def ipmitool_bootdev(bmc: Bmc, word: str) -> None:
    """ipmitool chassis bootdev sets each device, once and persistently, and bootparam get 5 shows it."""
    try:
        for options, scope in (((), "only next boot"), (("options=persistent",), "all future boots")):
            said = bmc.ipmitool("chassis", "bootdev", word, *options)
            assert said.code == 0, said.output
            said = bmc.ipmitool("chassis", "bootparam", "get", "5")
            assert said.code == 0, said.output
            assert BOOTDEV[word] in said.output, said.output
            assert f"Options apply to {scope}" in said.output, said.output
    finally:
        clean(bmc.console())
