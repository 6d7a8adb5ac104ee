"""The table as a whole: every row checks privilege and length first, and no data brings a handler down."""

import asyncio
import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.registry import Command, CompletionError, Registry, Request
from ipmi_gateway.commands.table import build_registry

TABLE = build_registry()
ROWS: list[Command] = list(TABLE._commands.values())
NO_SESSION = {(NetFn.APP, 0x37), (NetFn.GROUP, 0x01)}


def label(row: Command) -> str:
    return f"{row.netfn:02x}-{row.number:02x}"


@pytest.mark.parametrize("row", ROWS, ids=label)
async def test_privilege_and_length_of_every_command(console: Any, machine: Any, row: Command) -> None:
    least = max(row.minimum, 1 if row.netfn == NetFn.GROUP else 0)
    data = bytes(least)
    if row.privilege is Privilege.HIGHEST:
        assert (row.netfn, row.number) in NO_SESSION
    else:
        below = Privilege(row.privilege - 1)
        assert await console.code(row.netfn, row.number, *data, privilege=below) == Code.INSUFFICIENT_PRIVILEGE
    if row.netfn != NetFn.GROUP:
        if row.minimum:
            assert await console.code(row.netfn, row.number, *data[:-1]) == Code.DATA_LENGTH_INVALID
        if row.maximum < 255:
            assert await console.code(row.netfn, row.number, *bytes(row.maximum + 1)) == Code.DATA_LENGTH_INVALID
    assert machine.calls == []


@pytest.mark.parametrize("row", ROWS, ids=label)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.data())
def test_no_data_brings_a_handler_down(fleet: Any, make_machine: Any, row: Command, payload: Any) -> None:
    head = b"\xdc" if row.netfn == NetFn.GROUP else b""
    size = payload.draw(st.integers(row.minimum, min(row.maximum, 40)))
    data = (head + payload.draw(st.binary(min_size=size, max_size=size)))[:size]
    bmc = Bmc.create(fleet, "node9", make_machine("node9"), address=0x55, channel=3)

    async def ask() -> tuple[int, bytes]:
        request = Request(row.netfn, row.number, data, bmc, None, 1.0)
        try:
            answer = TABLE.dispatch(request, Privilege.ADMINISTRATOR)
            return 0, await answer if inspect.isawaitable(answer) else answer
        except CompletionError as error:
            return error.code, error.data

    code, answer = asyncio.run(ask())
    assert 0 <= code <= 0xFF
    assert isinstance(answer, bytes)
    assert len(answer) <= 0xFF + 2


async def test_unknown_commands(console: Any) -> None:
    known = {(row.netfn, row.number) for row in ROWS}
    for netfn in range(0, 0x40, 2):
        for number in range(256):
            if (netfn, number) not in known:
                assert await console.code(netfn, number) == Code.INVALID_COMMAND


async def test_firmware_and_oem_functions_are_not_there(console: Any) -> None:
    for netfn in (NetFn.FIRMWARE, NetFn.OEM_GROUP, 0x30, 0x3A, NetFn.BRIDGE):
        assert await console.code(netfn, 0x01, 1, 2, 3) == Code.INVALID_COMMAND


def test_changes_are_marked_for_the_audit() -> None:
    marked = {(row.netfn, row.number) for row in ROWS if row.changes}
    assert {(0x00, 0x02), (0x00, 0x04), (0x00, 0x08), (0x06, 0x02), (0x06, 0x24), (0x0A, 0x47)} <= marked
    assert not {(0x00, 0x01), (0x00, 0x09), (0x06, 0x01), (0x0A, 0x43)} & marked


def test_other_tables_are_taken_in_once() -> None:
    other = Registry()
    other.add(0x2E, 0x55, Privilege.ADMINISTRATOR)(lambda _request: b"")
    assert build_registry(other).find(0x2E, 0x55) is not None
    with pytest.raises(ValueError, match="twice"):
        build_registry(other, other)
