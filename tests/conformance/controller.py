"""The management controller: identity, self-test, watchdog, enables, LAN parameters, DCMI (sections 20 to 27)."""

import struct
import time

from rmcp_client import OPERATOR, USER

from .bmc import Bmc
from .case import Group, case
from .codes import (
    APP,
    BAD_LENGTH,
    BAD_VALUE,
    CHASSIS,
    COLD_RESET,
    DEVICE_GUID,
    GET_ACPI,
    GET_DEVICE_ID,
    GET_ENABLES,
    GET_WATCHDOG,
    GROUP,
    INVALID_COMMAND,
    INVALID_FIELD,
    OEM,
    PRIVILEGE,
    RESET_WATCHDOG,
    SELF_TEST,
    SET_ACPI,
    SET_ENABLES,
    SET_WATCHDOG,
    STATUS,
    SYSTEM_GUID,
    TRANSPORT,
    WARM_RESET,
)

LAN_GET, LAN_SET = 0x02, 0x01
NOT_INITIALISED = 0x80
PARAMETER_UNKNOWN = 0x80
DCMI = 0xDC


@case(Group.CONTROLLER)
def device_id(bmc: Bmc) -> None:
    """Get Device ID: IPMI 2.0, BCD firmware revision, available, a chassis device with SDR, SEL and FRU."""
    data = bmc.console(level=USER).ok(APP, GET_DEVICE_ID)
    assert len(data) in (11, 15), f"{len(data)} octets"
    assert not data[2] & 0x80, "device not available"
    assert data[3] >> 4 <= 9 and data[3] & 15 <= 9, f"minor firmware revision {data[3]:02x}h is not BCD"
    assert data[4] == 0x02, f"IPMI version {data[4]:02x}h"
    assert data[5] & 0x0E == 0x0E, f"SDR, SEL or FRU device is not announced: {data[5]:02x}h"
    assert data[5] & 0x80 or bmc.target is None, "no chassis device"
    assert not data[8] & 0xF0, "reserved bits of the manufacturer"


@case(Group.CONTROLLER, each={"Get Device ID": GET_DEVICE_ID, "Get Self Test Results": SELF_TEST,
                              "Get Device GUID": DEVICE_GUID, "Get BMC Global Enables": GET_ENABLES,
                              "Get Watchdog Timer": GET_WATCHDOG, "Get ACPI Power State": GET_ACPI})  # fmt: skip
def no_data_expected(bmc: Bmc, command: int) -> None:
    """Commands without data are answered C7h (or CCh) when there is some, and work at USER without."""
    console = bmc.console(level=USER)
    console.expect(BAD_LENGTH, APP, command, 0)
    console.ok(APP, command)


@case(Group.CONTROLLER)
def self_test(bmc: Bmc) -> None:
    """Get Self Test Results: passed."""
    assert bmc.console().ok(APP, SELF_TEST) == b"\x55\x00"


@case(Group.CONTROLLER)
def guids(bmc: Bmc) -> None:
    """Get Device GUID and Get System GUID: 16 octets, always the same."""
    console = bmc.console()
    device, system = console.ok(APP, DEVICE_GUID), console.ok(APP, SYSTEM_GUID)
    assert len(device) == len(system) == 16
    assert any(device), "all zeros"
    assert any(system), "all zeros"
    again = bmc.console()
    assert (again.ok(APP, DEVICE_GUID), again.ok(APP, SYSTEM_GUID)) == (device, system), "it has changed"


@case(Group.CONTROLLER)
def global_enables(bmc: Bmc) -> None:
    """Set and Get BMC Global Enables: event logging can be switched, and is on at first."""
    console = bmc.console()
    before = console.ok(APP, GET_ENABLES)[0]
    assert before & 0x08, "event logging is off"
    try:
        console.expect(0, APP, SET_ENABLES, before & ~0x08)
        assert not console.ok(APP, GET_ENABLES)[0] & 0x08
    finally:
        console.expect(0, APP, SET_ENABLES, before)
    assert console.ok(APP, GET_ENABLES)[0] == before


@case(Group.CONTROLLER)
def acpi_state(bmc: Bmc) -> None:
    """Get ACPI Power State fits the power; Set takes a state that exists and refuses others."""
    console = bmc.console()
    data = console.ok(APP, GET_ACPI)
    assert len(data) == 2, f"{len(data)} octets"
    on = console.ok(CHASSIS, STATUS)[0] & 1
    assert data[0] in ((0, 1, 2, 3, 8, 0x20) if on else (4, 5, 6, 7, 9, 0x2A)), f"{data[0]:02x}h, power {on}"
    console.expect(0, APP, SET_ACPI, 0x7F, 0x7F)
    console.expect(BAD_VALUE, APP, SET_ACPI, 0x80 | 0x1F, 0x7F)


@case(Group.CONTROLLER, each={"cold": COLD_RESET, "warm": WARM_RESET})
def reset(bmc: Bmc, command: int) -> None:
    """Cold and Warm Reset are answered, and the controller and the machine's power are there afterwards."""
    console = bmc.console()
    power = console.ok(CHASSIS, STATUS)[0] & 1
    try:
        code = console.code(APP, command)
    except Exception:  # noqa: BLE001 - a controller that starts anew may forget to answer
        code = 0
    assert code == 0, f"completion code {code:02x}h"
    deadline = time.monotonic() + 10
    while not bmc.alive():
        assert time.monotonic() < deadline, "it does not come back within 10 s"
    assert bmc.console().ok(CHASSIS, STATUS)[0] & 1 == power, "the machine's power has changed"


@case(Group.CONTROLLER, each={"cold": COLD_RESET, "warm": WARM_RESET})
def reset_needs_administrator(bmc: Bmc, command: int) -> None:
    """Cold and Warm Reset take an administrator."""
    bmc.console(level=OPERATOR).expect(PRIVILEGE, APP, command)


# --- watchdog ---


@case(Group.CONTROLLER)
def watchdog_not_initialised(bmc: Bmc) -> None:
    """Reset Watchdog Timer before the timer was ever set is answered 80h."""
    console = bmc.console()
    console.code(APP, WARM_RESET)
    bmc.console().expect(NOT_INITIALISED, APP, RESET_WATCHDOG)


@case(Group.CONTROLLER)
def watchdog_set_and_get(bmc: Bmc) -> None:
    """Set, Get and Reset Watchdog Timer: stored, started by Reset only, counts down, stopped by Set."""
    console = bmc.console()
    console.expect(0, APP, SET_WATCHDOG, 0x04, 0x00, 0, 0x10, *struct.pack("<H", 3000))
    data = console.ok(APP, GET_WATCHDOG)
    assert len(data) == 8, f"{len(data)} octets"
    assert data[0] == 0x04, f"use {data[0]:02x}h: it must not run yet"
    assert data[1:3] == b"\0\0", data.hex()
    assert struct.unpack("<HH", data[4:]) == (3000, 3000), data.hex()
    console.expect(0, APP, RESET_WATCHDOG)
    time.sleep(0.35)
    data = console.ok(APP, GET_WATCHDOG)
    initial, present = struct.unpack("<HH", data[4:])
    assert data[0] & 0x40, "it does not run"
    assert initial == 3000, f"initial {initial}"
    assert 2900 < present < 3000, f"present {present}"
    console.expect(0, APP, SET_WATCHDOG, 0x04, 0x00, 0, 0x10, *struct.pack("<H", 3000))
    assert not console.ok(APP, GET_WATCHDOG)[0] & 0x40, "it was not stopped"


@case(Group.CONTROLLER)
def watchdog_without_action_expires(bmc: Bmc) -> None:
    """A watchdog without action that runs out sets its expiration flag, and stops."""
    console = bmc.console()
    console.expect(0, APP, SET_WATCHDOG, 0x84, 0x00, 0, 0x3E, 4, 0)
    console.expect(0, APP, RESET_WATCHDOG)
    deadline = time.monotonic() + 5
    while (data := console.ok(APP, GET_WATCHDOG))[0] & 0x40:
        assert time.monotonic() < deadline, "it does not run out"
        time.sleep(0.1)
    assert data[3] & 0x10, f"expiration flags {data[3]:02x}h"
    console.expect(0, APP, SET_WATCHDOG, 0x84, 0x00, 0, 0x10, 4, 0)
    assert not console.ok(APP, GET_WATCHDOG)[3] & 0x10, "the flag was not cleared"


@case(Group.CONTROLLER, each={"use 0": (0, 0, 0, 0, 100, 0), "action 4": (4, 4, 0, 0, 100, 0),
                              "pre-timeout too long": (4, 0x10, 60, 0, 100, 0)})  # fmt: skip
def watchdog_bad(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Set Watchdog Timer with values that make no sense is refused."""
    bmc.console().expect(BAD_VALUE, APP, SET_WATCHDOG, *data)


@case(Group.CONTROLLER, each={"short": (4, 0, 0, 0, 100), "long": (4, 0, 0, 0, 100, 0, 0)})
def watchdog_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Set Watchdog Timer of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, APP, SET_WATCHDOG, *data)


# --- what is not there ---


UNKNOWN = {
    "App F0h": (APP, 0xF0, ()),
    "Chassis 70h": (CHASSIS, 0x70, ()),
    "Storage 99h": (0x0A, 0x99, ()),
    "Transport 77h": (TRANSPORT, 0x77, ()),
    "Firmware 01h": (0x08, 0x01, ()),
    "Bridge 00h": (0x02, 0x00, ()),
    "PICMG": (GROUP, 0x00, (0x00,)),
    "VITA": (GROUP, 0x00, (0x03,)),
    "HPM capabilities": (GROUP, 0x3E, (0x00, 0x00)),
    "OEM group": (OEM, 0x01, (0xD0, 0x07, 0x00)),
    "controller OEM 30h": (0x30, 0x70, (0x0C, 0x00)),
    "controller OEM 3Ah": (0x3A, 0x01, ()),
}


@case(Group.CONTROLLER, each=UNKNOWN)
def unknown_command(bmc: Bmc, item: tuple[int, int, tuple[int, ...]]) -> None:
    """A command that does not exist is answered C1h, at once."""
    console = bmc.console()
    started = time.monotonic()
    console.expect(INVALID_COMMAND, item[0], item[1], *item[2])
    assert time.monotonic() - started < 1


# --- LAN configuration ---


def lan(bmc: Bmc, parameter: int, selector: int = 0, block: int = 0) -> bytes:
    data = bmc.console().ok(TRANSPORT, LAN_GET, 0x0E, parameter, selector, block)
    assert data[0] == 0x11, f"revision {data[0]:02x}h"
    return data[1:]


LAN_SIZES = {"set in progress": (0, 1), "address": (3, 4), "source": (4, 1), "MAC": (5, 6), "mask": (6, 4),
             "gateway": (12, 4), "community": (16, 18), "VLAN": (20, 2), "suites": (22, 1)}  # fmt: skip


@case(Group.CONTROLLER, each=LAN_SIZES)
def lan_parameter(bmc: Bmc, item: tuple[int, int]) -> None:
    """Get LAN Configuration Parameters has the parameters that tools show, in their sizes."""
    data = lan(bmc, item[0])
    assert len(data) == item[1], f"{len(data)} octets, expected {item[1]}"


@case(Group.CONTROLLER)
def lan_cipher_suites(bmc: Bmc) -> None:
    """The LAN parameters 22 to 24 say the cipher suites that are served, and a limit for each."""
    count = lan(bmc, 22)[0]
    assert count == len(bmc.suites), f"{count} suites"
    assert tuple(lan(bmc, 23)[1 : 1 + count]) == bmc.suites, lan(bmc, 23).hex()
    assert len(lan(bmc, 24)) == 9


@case(Group.CONTROLLER)
def lan_parameter_unknown(bmc: Bmc) -> None:
    """A LAN parameter that does not exist is answered 80h."""
    bmc.console().expect(PARAMETER_UNKNOWN, TRANSPORT, LAN_GET, 0x0E, 190, 0, 0)


@case(Group.CONTROLLER)
def lan_parameter_of_no_channel(bmc: Bmc) -> None:
    """LAN parameters of a channel that is none are refused."""
    bmc.console().expect(BAD_VALUE, TRANSPORT, LAN_GET, 0x0B, 3, 0, 0)


@case(Group.CONTROLLER)
def lan_parameter_length(bmc: Bmc) -> None:
    """Get LAN Configuration Parameters of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, TRANSPORT, LAN_GET, 0x0E, 3, 0)


@case(Group.CONTROLLER)
def lan_set_is_answered(bmc: Bmc) -> None:
    """Set LAN Configuration Parameters is done or refused, never left without an answer."""
    console = bmc.console()
    address = lan(bmc, 3)
    console.expect({0, 0x80, 0x82, INVALID_FIELD, 0xD4, 0xD5, 0xD6}, TRANSPORT, LAN_SET, 0x0E, 3, *address)
    bmc.console(level=OPERATOR).expect(PRIVILEGE, TRANSPORT, LAN_SET, 0x0E, 3, *address)


# --- DCMI ---


@case(Group.CONTROLLER, each={str(number): number for number in range(1, 6)})
def dcmi_capabilities(bmc: Bmc, number: int) -> None:
    """DCMI Get Capabilities answers for each parameter, with the group id."""
    data = bmc.console().ok(GROUP, 0x01, DCMI, number)
    assert data[0] == DCMI, data.hex()
    assert data[1] == 1, f"conformance {data[1]}.{data[2]}"


@case(Group.CONTROLLER)
def dcmi_asset_tag(bmc: Bmc) -> None:
    """DCMI asset tag: set, and read back."""
    console = bmc.console()
    data = console.ok(GROUP, 0x06, DCMI, 0, 16)
    before = data[2 : 2 + data[1]]
    try:
        console.ok(GROUP, 0x08, DCMI, 0, 6, *b"rack-7")
        assert console.ok(GROUP, 0x06, DCMI, 0, 6) == b"\xdc\x06rack-7"
    finally:
        console.code(GROUP, 0x08, DCMI, 0, len(before), *before)


@case(Group.CONTROLLER)
def dcmi_controller_id(bmc: Bmc) -> None:
    """DCMI Get Management Controller Identifier String: there is one."""
    data = bmc.console().ok(GROUP, 0x09, DCMI, 0, 16)
    assert data[0] == DCMI
    assert data[1] > 0, "it is empty"


@case(Group.CONTROLLER, needs="watts")
def dcmi_power_reading(bmc: Bmc) -> None:
    """DCMI Get Power Reading: plausible watts."""
    data = bmc.console().ok(GROUP, 0x02, DCMI, 1, 0, 0)
    assert len(data) == 18, f"{len(data)} octets"
    assert 0 < struct.unpack_from("<H", data, 1)[0] < 5000


@case(Group.CONTROLLER)
def dcmi_other_parameter(bmc: Bmc) -> None:
    """DCMI Get Capabilities of a parameter that does not exist is refused."""
    bmc.console().expect(BAD_VALUE | {INVALID_COMMAND}, GROUP, 0x01, DCMI, 0x7F)
