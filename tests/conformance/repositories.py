"""SDR, sensors, SEL and FRU (sections 29, 31, 33, 34 and 35)."""

import struct
import time

from rmcp_client import USER

from .bmc import Bmc, Console
from .case import Group, case
from .codes import (
    APP,
    BAD_LENGTH,
    CANNOT_RETURN,
    GET_DEVICE_ID,
    INVALID_FIELD,
    NOT_PRESENT,
    OUT_OF_RANGE,
    PRIVILEGE,
    RESERVATION,
    SENSOR,
    STORAGE,
    TOO_LONG,
)

SDR_INFO, SDR_ALLOCATION, SDR_RESERVE, SDR_GET, SDR_TIME = 0x20, 0x21, 0x22, 0x23, 0x28
SEL_INFO, SEL_ALLOCATION, SEL_RESERVE, SEL_GET = 0x40, 0x41, 0x42, 0x43
SEL_ADD, SEL_DELETE, SEL_CLEAR = 0x44, 0x46, 0x47
SEL_TIME, SEL_SET_TIME = 0x48, 0x49
FRU_INFO, FRU_READ, FRU_WRITE = 0x10, 0x11, 0x12
READING, THRESHOLDS, FACTORS, TYPE = 0x2D, 0x27, 0x23, 0x2F
FULL, COMPACT, EVENT_ONLY, FRU_LOCATOR, MC_LOCATOR = 1, 2, 3, 0x11, 0x12
TOO_MUCH = {CANNOT_RETURN, TOO_LONG, OUT_OF_RANGE, INVALID_FIELD}
YEAR_2020 = 1_577_836_800


def word(number: int) -> bytes:
    return struct.pack("<H", number)


def sdr(console: Console, record: int, offset: int = 0, count: int = 0xFF, reservation: int = 0) -> tuple[int, bytes]:
    """The following record's id, and the octets."""
    data = console.ok(STORAGE, SDR_GET, *word(reservation), *word(record), offset, count)
    return int(struct.unpack_from("<H", data)[0]), data[2:]


def records(console: Console) -> list[bytes]:
    """All records, read in parts of 16 octets as tools do."""
    reservation = struct.unpack("<H", console.ok(STORAGE, SDR_RESERVE))[0]
    found, number = [], 0
    for _ in range(2000):
        following, head = sdr(console, number, 0, 5, reservation)
        assert len(head) == 5, f"a head of {len(head)} octets"
        body = head
        while len(body) < 5 + head[4]:
            size = min(16, 5 + head[4] - len(body))
            part = sdr(console, number, len(body), size, reservation)[1]
            assert len(part) == size, f"{len(part)} octets instead of {size}"
            body += part
        found.append(body)
        if following == 0xFFFF:
            return found
        number = following
    raise AssertionError("the repository has no end")


@case(Group.REPOSITORIES)
def sdr_info(bmc: Bmc) -> None:
    """Get SDR Repository Info: version 51h, and as many records as there are."""
    console = bmc.console(level=USER)
    data = console.ok(STORAGE, SDR_INFO)
    assert len(data) == 14, f"{len(data)} octets"
    assert data[0] == 0x51, f"version {data[0]:02x}h"
    count = len(records(console))
    assert struct.unpack_from("<H", data, 1)[0] == count, f"{count} records there"
    assert count > 0, "no records"


@case(Group.REPOSITORIES)
def sdr_records(bmc: Bmc) -> None:
    """All records can be read in parts; their ids differ, their types and lengths are right."""
    found = records(bmc.console())
    ids = [struct.unpack_from("<H", record)[0] for record in found]
    assert len(set(ids)) == len(ids), "an id comes twice"
    for record in found:
        assert record[2] == 0x51, f"SDR version {record[2]:02x}h"
        assert record[3] in (FULL, COMPACT, EVENT_ONLY, FRU_LOCATOR, MC_LOCATOR, 8, 9, 0x10, 0xC0), record.hex()
    assert any(record[3] == MC_LOCATOR for record in found), "no management controller locator"


@case(Group.REPOSITORIES)
def sdr_whole_and_parts_agree(bmc: Bmc) -> None:
    """A record read whole (FFh) is the same as in parts."""
    console = bmc.console()
    first = records(console)[0]
    assert sdr(console, 0)[1] == first


@case(Group.REPOSITORIES)
def sdr_owner(bmc: Bmc) -> None:
    """SDR owners and locators say the address that the node is seen at."""
    own = 0x20 if bmc.target is None else bmc.target
    for record in records(bmc.console()):
        if record[3] in (FULL, COMPACT, EVENT_ONLY):
            assert record[5] == own, f"owner {record[5]:02x}h"
            assert bmc.target is None or record[6] >> 4 == bmc.channel, f"owner's channel {record[6] >> 4}"
        elif record[3] == MC_LOCATOR:
            assert record[5] == own, f"locator of {record[5]:02x}h"
        elif record[3] == FRU_LOCATOR:
            assert record[5] == own, f"FRU at {record[5]:02x}h"


@case(Group.REPOSITORIES)
def sdr_reservation(bmc: Bmc) -> None:
    """A partial read takes the present reservation: C5h with another, or with none."""
    console = bmc.console()
    old = struct.unpack("<H", console.ok(STORAGE, SDR_RESERVE))[0]
    new = struct.unpack("<H", console.ok(STORAGE, SDR_RESERVE))[0]
    assert old != new != 0, f"reservations {old} and {new}"
    assert len(sdr(console, 0, 5, 4, new)[1]) == 4
    for bad in (old, 0, new ^ 0x5555):
        console.expect(RESERVATION, STORAGE, SDR_GET, *word(bad), 0, 0, 5, 4)


@case(Group.REPOSITORIES, each={"5000": 5000, "FFFEh": 0xFFFE})
def sdr_missing(bmc: Bmc, number: int) -> None:
    """A record that is not there is answered CBh."""
    bmc.console().expect(NOT_PRESENT, STORAGE, SDR_GET, 0, 0, *word(number), 0, 0xFF)


@case(Group.REPOSITORIES)
def sdr_past_the_end(bmc: Bmc) -> None:
    """Reading behind the end of a record is refused, not answered with something."""
    console = bmc.console()
    reservation = console.ok(STORAGE, SDR_RESERVE)
    console.expect(TOO_MUCH, STORAGE, SDR_GET, *reservation, 0, 0, 200, 16)
    console.expect(TOO_MUCH, STORAGE, SDR_GET, *reservation, 0, 0, 4, 0xFE)


@case(Group.REPOSITORIES, each={"info": SDR_INFO, "allocation": SDR_ALLOCATION, "reserve": SDR_RESERVE,
                                "time": SDR_TIME, "SEL info": SEL_INFO, "SEL reserve": SEL_RESERVE,
                                "SEL time": SEL_TIME, "SEL allocation": SEL_ALLOCATION})  # fmt: skip
def storage_no_data_expected(bmc: Bmc, command: int) -> None:
    """Storage commands without data are answered C7h (or CCh) when there is some, and work at USER without."""
    console = bmc.console(level=USER)
    console.expect(BAD_LENGTH, STORAGE, command, 0)
    console.ok(STORAGE, command)


@case(Group.REPOSITORIES, each={"SDR": SDR_GET, "SEL": SEL_GET})
def get_length(bmc: Bmc, command: int) -> None:
    """Get SDR and Get SEL Entry of a wrong length are answered C7h (or CCh)."""
    console = bmc.console()
    console.expect(BAD_LENGTH, STORAGE, command, *bytes(5))
    console.expect(BAD_LENGTH, STORAGE, command, *bytes(7))


# --- sensors ---


def sensors(console: Console) -> list[bytes]:
    return [record for record in records(console) if record[3] in (FULL, COMPACT)]


@case(Group.REPOSITORIES, needs="sensors")
def sensor_readings(bmc: Bmc) -> None:
    """Get Sensor Reading works for every sensor in the SDRs."""
    console = bmc.console(level=USER)
    found = sensors(console)
    assert found, "no sensors"
    for record in found:
        data = console.ok(SENSOR, READING, record[7], lun=record[6] & 3)
        assert len(data) in (3, 4), f"sensor {record[7]:02x}h: {len(data)} octets"
        assert data[1] & 0x40, f"sensor {record[7]:02x}h: scanning is off"


@case(Group.REPOSITORIES, needs="sensors")
def sensor_types(bmc: Bmc) -> None:
    """Get Sensor Type agrees with the SDR."""
    console = bmc.console()
    for record in sensors(console):
        data = console.ok(SENSOR, TYPE, record[7], lun=record[6] & 3)
        assert data[:2] == record[12:14], f"sensor {record[7]:02x}h: {data.hex()}, SDR {record[12:14].hex()}"


@case(Group.REPOSITORIES, needs="sensors")
def sensor_thresholds(bmc: Bmc) -> None:
    """Get Sensor Thresholds and Get Sensor Reading Factors work for analog sensors."""
    console = bmc.console()
    analog = [record for record in sensors(console) if record[3] == FULL and record[13] == 1]
    assert analog, "no analog sensor"
    for record in analog:
        assert len(console.ok(SENSOR, THRESHOLDS, record[7])) == 7
        factors = console.ok(SENSOR, FACTORS, record[7], 10)
        assert len(factors) == 7, f"{len(factors)} octets"
        # the SDR has the sensor's direction in two bits that are reserved here
        wanted = record[24:28] + bytes((record[28] & 0xFC, record[29]))
        assert factors[1:] == wanted, f"{factors[1:].hex()}, SDR {wanted.hex()}"


@case(Group.REPOSITORIES, each={"reading": READING, "thresholds": THRESHOLDS, "type": TYPE})
def sensor_missing(bmc: Bmc, command: int) -> None:
    """A sensor that is not there is answered CBh."""
    bmc.console().expect(NOT_PRESENT, SENSOR, command, 0xEE)


@case(Group.REPOSITORIES)
def sensor_length(bmc: Bmc) -> None:
    """Get Sensor Reading of a wrong length is answered C7h (or CCh)."""
    console = bmc.console()
    console.expect(BAD_LENGTH, SENSOR, READING)
    console.expect(BAD_LENGTH, SENSOR, READING, 1, 2)


# --- SEL ---


def sel_count(console: Console) -> int:
    return int(struct.unpack_from("<H", console.ok(STORAGE, SEL_INFO), 1)[0])


def sel_clear(console: Console) -> None:
    reservation = console.ok(STORAGE, SEL_RESERVE)
    deadline = time.monotonic() + 5
    console.ok(STORAGE, SEL_CLEAR, *reservation, *b"CLR", 0xAA)
    while console.ok(STORAGE, SEL_CLEAR, *reservation, *b"CLR", 0)[0] & 15 != 1:
        assert time.monotonic() < deadline, "erasure does not end"


def sel_entry(console: Console, number: int) -> tuple[int, bytes]:
    data = console.ok(STORAGE, SEL_GET, 0, 0, *word(number), 0, 0xFF)
    assert len(data) == 18, f"{len(data)} octets"
    return int(struct.unpack_from("<H", data)[0]), data[2:]


RECORD = bytes((0, 0, 2, 0, 0, 0, 0, 0x41, 0, 4, 1, 0x30, 0x01, 0x59, 0x00, 0x00))
"""A system event of a temperature sensor; id and time are put in by the BMC."""


@case(Group.REPOSITORIES, needs="sel")
def sel_info(bmc: Bmc) -> None:
    """Get SEL Info: version 51h, 14 octets; Get SEL Allocation Info agrees."""
    console = bmc.console()
    data = console.ok(STORAGE, SEL_INFO)
    assert len(data) == 14, f"{len(data)} octets"
    assert data[0] == 0x51, f"version {data[0]:02x}h"
    assert data[13] & 0x0A == 0x0A, "Reserve or Delete are not supported"
    if data[13] & 1:
        assert len(console.ok(STORAGE, SEL_ALLOCATION)) == 9


@case(Group.REPOSITORIES, needs="sel")
def sel_add_and_get(bmc: Bmc) -> None:
    """Add SEL Entry: the record is there, with a new id and today's time, and the counts have changed."""
    console = bmc.console()
    before, now = sel_count(console), struct.unpack("<I", console.ok(STORAGE, SEL_TIME))[0]
    number = struct.unpack("<H", console.ok(STORAGE, SEL_ADD, *RECORD))[0]
    assert sel_count(console) == before + 1
    _, record = sel_entry(console, number)
    assert struct.unpack_from("<H", record)[0] == number
    assert record[7:] == RECORD[7:], record.hex()
    assert abs(struct.unpack_from("<I", record, 3)[0] - now) <= 5, "its time is not now"
    assert sel_entry(console, 0xFFFF)[1] == record, "FFFFh is not the newest record"


@case(Group.REPOSITORIES, needs="sel")
def sel_walk(bmc: Bmc) -> None:
    """From record 0000h on, each record names the next one, and the last one FFFFh."""
    console = bmc.console()
    sel_clear(console)
    added = [struct.unpack("<H", console.ok(STORAGE, SEL_ADD, *RECORD))[0] for _ in range(4)]
    walked, number = [], 0
    while number != 0xFFFF:
        number, record = sel_entry(console, number)
        walked.append(struct.unpack_from("<H", record)[0])
    assert walked[-4:] == added, f"{added} added, {walked} read"


@case(Group.REPOSITORIES, needs="sel")
def sel_delete(bmc: Bmc) -> None:
    """Delete SEL Entry takes the reservation, and takes one record away."""
    console = bmc.console()
    numbers = [console.ok(STORAGE, SEL_ADD, *RECORD) for _ in range(3)]
    before = sel_count(console)
    console.expect(RESERVATION, STORAGE, SEL_DELETE, 0x55, 0x55, *numbers[1])
    reservation = console.ok(STORAGE, SEL_RESERVE)
    assert console.ok(STORAGE, SEL_DELETE, *reservation, *numbers[1]) == numbers[1]
    assert sel_count(console) == before - 1
    console.expect(NOT_PRESENT, STORAGE, SEL_GET, 0, 0, *numbers[1], 0, 0xFF)
    reservation = console.ok(STORAGE, SEL_RESERVE)
    console.expect(NOT_PRESENT, STORAGE, SEL_DELETE, *reservation, *numbers[1])


@case(Group.REPOSITORIES, needs="sel")
def sel_clears(bmc: Bmc) -> None:
    """Clear SEL takes the reservation and the letters CLR, and leaves nothing but what it logs itself."""
    console = bmc.console()
    console.ok(STORAGE, SEL_ADD, *RECORD)
    console.expect(RESERVATION, STORAGE, SEL_CLEAR, 0x55, 0x55, *b"CLR", 0xAA)
    reservation = console.ok(STORAGE, SEL_RESERVE)
    console.expect(INVALID_FIELD, STORAGE, SEL_CLEAR, *reservation, *b"XXX", 0xAA)
    assert sel_count(console) > 0, "it was cleared without the letters"
    sel_clear(console)
    assert sel_count(console) <= 1, f"{sel_count(console)} records left"


@case(Group.REPOSITORIES, needs="sel")
def sel_missing(bmc: Bmc) -> None:
    """A SEL record that is not there is answered CBh."""
    bmc.console().expect(NOT_PRESENT, STORAGE, SEL_GET, 0, 0, 0xF0, 0xF0, 0, 0xFF)


@case(Group.REPOSITORIES, needs="sel")
def sel_partial(bmc: Bmc) -> None:
    """Get SEL Entry in parts, with a reservation; behind the end it is refused."""
    console = bmc.console()
    number = console.ok(STORAGE, SEL_ADD, *RECORD)
    whole = sel_entry(console, struct.unpack("<H", number)[0])[1]
    reservation = console.ok(STORAGE, SEL_RESERVE)
    assert console.ok(STORAGE, SEL_GET, *reservation, *number, 4, 6)[2:] == whole[4:10]
    console.expect(TOO_MUCH, STORAGE, SEL_GET, *reservation, *number, 12, 8)
    console.expect(RESERVATION, STORAGE, SEL_GET, 0x55, 0x55, *number, 4, 6)


@case(Group.REPOSITORIES)
def sel_time(bmc: Bmc) -> None:
    """Get SEL Time is today's, and Set SEL Time sets it."""
    console = bmc.console()
    now = struct.unpack("<I", console.ok(STORAGE, SEL_TIME))[0]
    assert abs(now - time.time()) < 86_400 + 30, f"it says {now}"
    console.expect(0, STORAGE, SEL_SET_TIME, *struct.pack("<I", YEAR_2020))
    seen = struct.unpack("<I", console.ok(STORAGE, SEL_TIME))[0]
    console.expect(0, STORAGE, SEL_SET_TIME, *struct.pack("<I", now))
    assert 0 <= seen - YEAR_2020 <= 5, f"set to {YEAR_2020}, read {seen}"
    console.expect(BAD_LENGTH, STORAGE, SEL_SET_TIME, 1, 2, 3)


@case(Group.REPOSITORIES, needs="sel")
def sel_needs_operator(bmc: Bmc) -> None:
    """Add, Delete and Clear take an operator."""
    console = bmc.console(level=USER)
    console.expect(PRIVILEGE, STORAGE, SEL_ADD, *RECORD)
    console.expect(PRIVILEGE, STORAGE, SEL_DELETE, 0, 0, 1, 0)
    console.expect(PRIVILEGE, STORAGE, SEL_CLEAR, 0, 0, *b"CLR", 0xAA)


@case(Group.REPOSITORIES, needs="sel")
def platform_event(bmc: Bmc) -> None:
    """Platform Event lands in the SEL."""
    console = bmc.console()
    before = sel_count(console)
    console.expect(0, SENSOR, 0x02, 0x04, 0x01, 0x30, 0x01, 0x09, 0xFF, 0xFF)
    deadline = time.monotonic() + 2
    while sel_count(console) != before + 1:
        assert time.monotonic() < deadline, "it is not in the log"
    record = sel_entry(console, 0xFFFF)[1]
    assert record[10:13] == b"\x01\x30\x01", record.hex()


# --- FRU ---


def fru(console: Console) -> bytes:
    """The inventory, read in parts of 16 octets."""
    size, access = struct.unpack("<HB", console.ok(STORAGE, FRU_INFO, 0))
    assert not access & 1, "accessed by words"
    image = b""
    while len(image) < size:
        want = min(16, size - len(image))
        data = console.ok(STORAGE, FRU_READ, 0, *word(len(image)), want)
        assert data[0] == want == len(data) - 1, f"{data[0]} of {want} octets"
        image += data[1:]
    return image


@case(Group.REPOSITORIES)
def fru_image(bmc: Bmc) -> None:
    """The FRU inventory can be read in parts; its header and all its areas have right checksums."""
    image = fru(bmc.console(level=USER))
    assert len(image) >= 8, f"{len(image)} octets"
    assert image[0] & 0x0F == 1, f"format {image[0]:02x}h"
    assert sum(image[:8]) & 0xFF == 0, "the header's checksum"
    areas = [offset * 8 for offset in image[2:5] if offset]
    for start in areas:
        size = image[start + 1] * 8
        assert sum(image[start : start + size]) & 0xFF == 0, f"the checksum of the area at {start}"
    assert areas, "no area"


@case(Group.REPOSITORIES)
def fru_past_the_end(bmc: Bmc) -> None:
    """Reading behind the end of the inventory is refused with C9h or CAh (C8h breaks pyghmi)."""
    console = bmc.console()
    size = struct.unpack("<H", console.ok(STORAGE, FRU_INFO, 0)[:2])[0]
    console.expect({OUT_OF_RANGE, CANNOT_RETURN}, STORAGE, FRU_READ, 0, *word(size), 16)
    console.expect({OUT_OF_RANGE, CANNOT_RETURN}, STORAGE, FRU_READ, 0, 0xFF, 0xFF, 16)


@case(Group.REPOSITORIES)
def fru_missing(bmc: Bmc) -> None:
    """A FRU device that is not there is answered CBh."""
    console = bmc.console()
    console.expect(NOT_PRESENT, STORAGE, FRU_INFO, 0xF0)
    console.expect(NOT_PRESENT, STORAGE, FRU_READ, 0xF0, 0, 0, 16)


@case(Group.REPOSITORIES)
def fru_length(bmc: Bmc) -> None:
    """FRU commands of a wrong length are answered C7h (or CCh)."""
    console = bmc.console()
    console.expect(BAD_LENGTH, STORAGE, FRU_INFO)
    console.expect(BAD_LENGTH, STORAGE, FRU_INFO, 0, 0)
    console.expect(BAD_LENGTH, STORAGE, FRU_READ, 0, 0, 0)


@case(Group.REPOSITORIES)
def fru_write_is_answered(bmc: Bmc) -> None:
    """Write FRU Data is done, or refused with 80h (write protected)."""
    console = bmc.console()
    first = fru(console)[:1]
    console.expect({0, 0x80}, STORAGE, FRU_WRITE, 0, 0, 0, *first)
    bmc.console(level=USER).expect(PRIVILEGE, STORAGE, FRU_WRITE, 0, 0, 0, *first)


@case(Group.REPOSITORIES)
def announced_devices_answer(bmc: Bmc) -> None:
    """What Get Device ID announces (sensors, SDR, SEL, FRU) answers."""
    console = bmc.console()
    support = console.ok(APP, GET_DEVICE_ID)[5]
    for bit, command, data in ((1, SDR_INFO, ()), (2, SEL_INFO, ()), (3, FRU_INFO, (0,))):
        if support >> bit & 1:
            console.ok(STORAGE, command, *data)
