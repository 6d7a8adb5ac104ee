"""The system event log (IPMI 2.0 section 31), and platform events (section 29)."""

import struct
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.store import Store

STORAGE, SENSOR = 0x0A, 0x04
INFO, ALLOCATION, RESERVE, GET, ADD, DELETE, CLEAR = 0x40, 0x41, 0x42, 0x43, 0x44, 0x46, 0x47
EVENT = (0x04, 0x01, 0x30, 0x01, 0x09, 0xFF, 0xFF)


async def fill(console: Any, count: int) -> None:
    for number in range(count):
        await console.ok(SENSOR, 0x02, 4, 1, number & 0xFF, 1, 9, 0xFF, 0xFF)


async def entry(console: Any, record_id: int, offset: int = 0, count: int = 0xFF, reservation: int = 0) -> bytes:
    answer: bytes = await console.ok(STORAGE, GET, *struct.pack("<HHBB", reservation, record_id, offset, count))
    return answer


async def reserve(console: Any) -> int:
    return int.from_bytes(await console.ok(STORAGE, RESERVE), "little")


async def test_info_of_an_empty_log(console: Any) -> None:
    assert await console.ok(STORAGE, INFO) == struct.pack("<BHHIIB", 0x51, 0, 20 * 16, 0xFFFFFFFF, 0xFFFFFFFF, 0x0B)
    assert await console.ok(STORAGE, ALLOCATION) == struct.pack("<HHHHB", 20, 16, 20, 20, 1)
    assert await console.code(STORAGE, GET, 0, 0, 0, 0, 0, 0xFF) == Code.NOT_PRESENT
    assert await console.code(STORAGE, GET, 0, 0, 0xFF, 0xFF, 0, 0xFF) == Code.NOT_PRESENT


async def test_platform_event_lands_in_the_log(console: Any, clock: Any) -> None:
    await console.ok(SENSOR, 0x02, *EVENT)
    answer = await entry(console, 0)
    assert answer == struct.pack("<HHBI", 0xFFFF, 1, 2, int(clock.wall)) + bytes((0x81, 0x00, *EVENT))


async def test_platform_event_with_generator_and_without_data(console: Any) -> None:
    await console.ok(SENSOR, 0x02, 0x41, *EVENT)
    assert (await entry(console, 1))[9:11] == b"\x41\x00"
    await console.ok(SENSOR, 0x02, *EVENT[:5])
    assert (await entry(console, 2))[-2:] == b"\xff\xff"
    assert await console.code(SENSOR, 0x02, 9, *EVENT[1:]) == Code.INVALID_FIELD
    assert await console.code(SENSOR, 0x02, *EVENT[:4]) == Code.DATA_LENGTH_INVALID
    assert await console.code(SENSOR, 0x02, *EVENT, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


async def test_walking_and_partial_reads(console: Any) -> None:
    await fill(console, 3)
    seen, number = [], 0
    while number != 0xFFFF:
        answer = await entry(console, number)
        seen.append(struct.unpack_from("<H", answer, 2)[0])
        (number,) = struct.unpack_from("<H", answer)
    assert seen == [1, 2, 3]
    whole = (await entry(console, 2))[2:]
    reservation = await reserve(console)
    assert (await entry(console, 2, 7, 9, reservation))[2:] == whole[7:]
    assert (await entry(console, 2, 0, 16))[2:] == whole
    for offset, count, code in ((10, 7, Code.CANNOT_RETURN_BYTES), (17, 1, Code.PARAMETER_OUT_OF_RANGE)):
        data = struct.pack("<HHBB", reservation, 2, offset, count)
        assert await console.code(STORAGE, GET, *data) == code
    assert await console.code(STORAGE, GET, 0, 0, 9, 0, 0, 0xFF) == Code.NOT_PRESENT


async def test_partial_reads_need_the_reservation(console: Any) -> None:
    await fill(console, 1)
    old = await reserve(console)
    new = await reserve(console)
    for wrong in (0, old, new + 1):
        data = struct.pack("<HHBB", wrong, 1, 4, 4)
        assert await console.code(STORAGE, GET, *data) == Code.RESERVATION_CANCELLED
    await console.ok(STORAGE, GET, *struct.pack("<HHBB", new, 1, 4, 4))


async def test_add_puts_in_id_and_time(console: Any, clock: Any) -> None:
    record = struct.pack("<HBI", 0x7777, 0x02, 12345) + bytes((0x20, 0, 4, 7, 1, 0x6F, 1, 2, 3))
    assert await console.ok(STORAGE, ADD, *record) == b"\x01\x00"
    stored = (await entry(console, 1))[2:]
    assert stored == struct.pack("<HBI", 1, 0x02, int(clock.wall)) + record[7:]
    oem = bytes((0, 0, 0xE1)) + bytes(range(13))
    assert await console.ok(STORAGE, ADD, *oem) == b"\x02\x00"
    assert (await entry(console, 2))[4:] == oem[2:]
    assert await console.code(STORAGE, ADD, *record[:15]) == Code.DATA_LENGTH_INVALID


async def test_delete(console: Any) -> None:
    await fill(console, 4)
    reservation = await reserve(console)
    assert await console.code(STORAGE, DELETE, 0, 0, 2, 0) == Code.RESERVATION_CANCELLED
    assert await console.code(STORAGE, DELETE, *struct.pack("<HH", reservation ^ 0x55, 2)) == Code.RESERVATION_CANCELLED
    assert await console.ok(STORAGE, DELETE, *struct.pack("<HH", reservation, 2)) == b"\x02\x00"
    assert await console.ok(STORAGE, DELETE, *struct.pack("<HH", reservation, 0)) == b"\x01\x00"
    assert await console.code(STORAGE, DELETE, *struct.pack("<HH", reservation, 2)) == Code.NOT_PRESENT
    assert (await entry(console, 0))[:4] == struct.pack("<HH", 4, 3)
    await fill(console, 1)
    assert (await entry(console, 0xFFFF))[2:4] == b"\x05\x00"


async def test_clear(console: Any, clock: Any) -> None:
    await fill(console, 3)
    reservation = await reserve(console)
    good = struct.pack("<H", reservation)
    assert await console.code(STORAGE, CLEAR, 0, 0, *b"CLR", 0xAA) == Code.RESERVATION_CANCELLED
    assert await console.code(STORAGE, CLEAR, *good, *b"CLX", 0xAA) == Code.INVALID_FIELD
    assert await console.code(STORAGE, CLEAR, *good, *b"CLR", 0x11) == Code.INVALID_FIELD
    assert len(console.bmc.controller.sel) == 3
    assert await console.ok(STORAGE, CLEAR, *good, *b"CLR", 0xAA) == b"\x01"
    assert await console.ok(STORAGE, CLEAR, *good, *b"CLR", 0x00) == b"\x01"
    info = await console.ok(STORAGE, INFO)
    assert struct.unpack("<BHHIIB", info) == (0x51, 0, 320, 0xFFFFFFFF, int(clock.wall), 0x0B)


async def test_a_full_log_lets_the_oldest_go_and_says_so(console: Any) -> None:
    await fill(console, 20)
    assert (await console.ok(STORAGE, INFO))[-1] == 0x0B
    assert (await console.ok(SENSOR, 0x2D, 5))[2:] == bytes((0x30, 0x80))
    await fill(console, 3)
    info = await console.ok(STORAGE, INFO)
    assert struct.unpack_from("<HH", info, 1) == (20, 0)
    assert info[-1] == 0x8B
    assert (await entry(console, 0))[2:4] == b"\x04\x00"
    assert (await entry(console, 0xFFFF))[2:4] == bytes((23, 0))


async def test_ids_begin_again_after_the_last(console: Any) -> None:
    log = console.bmc.controller.sel
    await fill(console, 2)
    log._next_id = 0xFFFE
    await fill(console, 2)
    assert list(log._records) == [1, 2, 0xFFFE, 3]
    assert (await entry(console, 0xFFFE))[:2] == b"\x03\x00"
    assert (await entry(console, 2))[:2] == b"\xfe\xff"


async def test_clock_and_its_offset(console: Any, clock: Any) -> None:
    assert await console.ok(STORAGE, 0x48) == int(clock.wall).to_bytes(4, "little")
    await console.ok(STORAGE, 0x49, *(1_000_000).to_bytes(4, "little"))
    clock.advance(5)
    assert await console.ok(STORAGE, 0x48) == (1_000_005).to_bytes(4, "little")
    await fill(console, 1)
    assert (await entry(console, 1))[5:9] == (1_000_005).to_bytes(4, "little")
    assert await console.code(STORAGE, 0x49, 1, 2, 3) == Code.DATA_LENGTH_INVALID
    assert await console.ok(STORAGE, 0x5C) == b"\xff\x07"
    await console.ok(STORAGE, 0x5D, *struct.pack("<h", -90))
    assert await console.ok(STORAGE, 0x5C) == struct.pack("<h", -90)
    assert await console.code(STORAGE, 0x5D, *struct.pack("<h", 1441)) == Code.PARAMETER_OUT_OF_RANGE


async def test_own_events_name_the_address_that_is_seen(console: Any) -> None:
    console.bmc.controller.record_login_failure()
    assert (await entry(console, 1))[9:11] == bytes((0x30, 0x20))
    direct = await console.ok(STORAGE, GET, 0, 0, 1, 0, 0, 0xFF, bmc=console.bmc.view())
    assert direct[9:11] == bytes((0x20, 0x00))
    assert direct[12:16] == bytes((0x06, 7, 0x6F, 5))


async def test_the_log_outlives_a_restart(tmp_path: Any, console: Any, machine: Any, clock: Any) -> None:
    def begin() -> tuple[Store, Bmc]:
        store = Store(tmp_path / "gateway.db")
        fleet = Fleet(store=store, wall=lambda: clock.wall, clock=lambda: clock.now, sel_capacity=5)
        return store, Bmc.create(fleet, "node1", machine)

    store, console.bmc = begin()
    await console.ok(STORAGE, 0x49, *(2_000_000).to_bytes(4, "little"))
    await fill(console, 7)
    reservation = await reserve(console)
    await console.ok(STORAGE, DELETE, *struct.pack("<HH", reservation, 5))
    before = [await entry(console, number) for number in (3, 4, 6, 7)]
    info = await console.ok(STORAGE, INFO)
    store.close()
    store, console.bmc = begin()
    assert [await entry(console, number) for number in (3, 4, 6, 7)] == before
    assert await console.ok(STORAGE, INFO) == info
    assert int.from_bytes(await console.ok(STORAGE, 0x48), "little") == 2_000_000
    await fill(console, 1)
    assert (await entry(console, 0xFFFF))[2:4] == b"\x08\x00"
    other = Bmc.create(console.bmc.controller.fleet, "node2")
    assert len(other.controller.sel) == 0
    reservation = await reserve(console)
    await console.ok(STORAGE, CLEAR, *struct.pack("<H", reservation), *b"CLR", 0xAA)
    store.close()
    store, console.bmc = begin()
    assert len(console.bmc.controller.sel) == 0
    assert (await console.ok(STORAGE, INFO))[-1] == 0x0B
    store.close()


@pytest.mark.parametrize("command", [ADD, DELETE, CLEAR, 0x49, 0x5D])
async def test_users_may_only_read(console: Any, command: int) -> None:
    length = {ADD: 16, DELETE: 4, CLEAR: 6, 0x49: 4, 0x5D: 2}[command]
    assert await console.code(STORAGE, command, *bytes(length), privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


async def test_event_receiver(console: Any) -> None:
    assert await console.ok(SENSOR, 0x01) == b"\x20\x00"
    await console.ok(SENSOR, 0x00, 0x40, 1)
    assert await console.ok(SENSOR, 0x01) == b"\x40\x01"
    assert await console.code(SENSOR, 0x00, 0x40, 4) == Code.INVALID_FIELD
    assert await console.code(SENSOR, 0x00, 0x41, 0) == Code.INVALID_FIELD
    await console.ok(SENSOR, 0x00, 0xFF, 0)
