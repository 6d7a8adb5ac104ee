"""What a user sees: ipmitool, FreeIPMI and pyghmi's client over UDP, bridged and on a node's own port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ipmi_gateway.controller.facts import LanFacts
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.sessions.users import User
from ipmi_gateway.store import Store

WITH_SDR_CACHE = frozenset({"ipmi-sensors", "ipmi-sel", "ipmi-fru", "ipmi-config"})
"""FreeIPMI's tools that keep what they read by host and port, in the account's home whatever HOME says.

An earlier run's port may come again.
"""


@dataclass
class Served:
    """A gateway on loopback with one machine: bridged at 30h on channel 2, and on a port of its own."""

    gateway: Gateway
    machine: Any
    port: int
    own_port: int
    home: Path

    async def run(self, *command: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(self.home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TZ": "UTC"},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, output.decode("utf-8", "replace")

    async def ipmitool(self, *arguments: str, direct: bool = False) -> tuple[int, str]:
        port, way = (self.own_port, ()) if direct else (self.port, ("-b", "2", "-t", "0x30"))
        login = ("-I", "lanplus", "-H", "127.0.0.1", "-p", str(port), "-U", "admin", "-P", "secret")
        return await self.run("ipmitool", *login, *way, *arguments)

    async def freeipmi(self, tool: str, *arguments: str) -> tuple[int, str]:
        login = ("-h", f"127.0.0.1:{self.own_port}", "-u", "admin", "-p", "secret", "-D", "LAN_2_0")
        if tool in WITH_SDR_CACHE:
            login = (*login, f"--sdr-cache-directory={self.home}")
        return await self.run(tool, *login, *arguments)


@pytest.fixture
async def served(tmp_path: Path, make_machine: Any) -> AsyncIterator[Served]:
    fleet = Fleet(store=Store(tmp_path / "gateway.db"), lan=LanFacts(address="192.0.2.7"))
    gateway = Gateway([User("admin", b"secret")], fleet=fleet)
    machine = make_machine("node1")
    bmc = gateway.add_target(0x30, machine, channel=2)
    port = gateway.listen("127.0.0.1", 0)
    own_port = free_port()
    gateway.listen_for(bmc, "127.0.0.1", own_port)
    task = asyncio.create_task(gateway.run())
    try:
        yield Served(gateway, machine, port, own_port, tmp_path)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        fleet.store.close()


def free_port() -> int:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# command, what its output has; all must end with 0
SHOWN: list[tuple[str, list[str]]] = [
    ("chassis status", ["System Power         : off", "Power Control Fault  : false"]),
    ("chassis power status", ["Chassis Power is off"]),
    ("chassis power on", ["Up/On"]),
    ("chassis power soft", ["Soft"]),
    ("chassis power diag", ["Diag"]),
    ("chassis identify 5", ["5 seconds"]),
    ("chassis policy list", ["always-off always-on previous"]),
    ("chassis policy always-on", ["always-on"]),
    ("chassis restart_cause", ["unknown"]),
    ("chassis poh", ["0 days, 2 hours, 0 minutes"]),
    ("chassis selftest", ["passed"]),
    ("chassis bootdev pxe options=persistent", ["Set Boot Device to pxe"]),
    ("chassis bootparam get 5", ["Boot Flag Invalid", "No override"]),
    ("chassis bootparam get 7", ["Block Data"]),
    ("mc info", ["IPMI Version              : 2.0", "Chassis Device", "Manufacturer ID"]),
    ("mc guid", ["Name-based using SHA-1"]),
    ("mc selftest", ["passed"]),
    ("mc getenables", ["System Event Logging                     : enabled"]),
    ("mc reset warm", ["Sent warm reset command to MC"]),
    ("mc reset cold", ["Sent cold reset command to MC"]),
    ("mc watchdog get", ["Stopped"]),
    ("mc getsysinfo system_name", ["node1 in rack 1"]),
    ("lan print 1", ["IP Address              : ", "RMCP+ Cipher Suites     : 17,3", "aaXaXX"]),
    ("lan stats get 1", ["UDP Rx Packet"]),
    ("lan alert print 1", ["PET Trap"]),
    ("sdr elist", ["S4/S5: soft-off", "Power off/down", "23.50 degrees C", "12.03 Volts", "188 Watts", "-61 Decibels"]),
    ("sdr elist mcloc", ["node1 in rack 1"]),
    ("sdr elist fru", ["Logical FRU @00h"]),
    ("sdr elist event", ["System Boot", "Login"]),
    ("sdr type Temperature", ["Inlet Temp       | 10h | ok  |  7.1 | 23.50 degrees C"]),
    ("sdr -v", ["Sensor ID              : Inlet Temp (0x10)", "Entity ID", "Sensor Type (Threshold)  : Temperature"]),
    ("sdr info", ["Record Count                        : 18"]),
    ("sensor list", ["23.500     | degrees C  | ok    | na        | -10.000   | na        | 60.000    | 70.000"]),
    ("sensor get Fan1", []),
    ("sel info", ["Entries          : 0", "'Delete' 'Reserve' 'Get Alloc Info'"]),
    ("sel elist", ["SEL has no entries"]),
    ("sel time get", ["UTC"]),
    ("fru print", ["Rack Server 9000", "SN12345", "MB-1", "CH-SN-9", "LAB-42"]),
    ("event 1", ["Upper Critical going high"]),
    ("pef status", ["0x0000"]),
    ("dcmi discover", ["Power management available", "SEL automatic rollover is enabled"]),
    ("dcmi power reading", ["Instantaneous power reading:                   187 Watts", "activated"]),
    ("dcmi asset_tag", ["LAB-42"]),
    ("dcmi get_mc_id_string", ["node1"]),
    ("dcmi sensors", ["Baseboard: 1 temperature sensor found", "23.50 degrees C"]),
    ("raw 0 1", ["00 00 40 00"]),
]


@pytest.mark.parametrize("direct", [False, True], ids=["bridged", "direct"])
@pytest.mark.parametrize(("command", "texts"), SHOWN, ids=[command for command, _ in SHOWN])
async def test_ipmitool_shows(served: Served, command: str, texts: list[str], direct: bool) -> None:
    code, output = await served.ipmitool(*command.split(), direct=direct)
    if texts:
        assert code == 0, output
    for text in texts:
        assert text in output


REFUSED = [
    ("power status", "Destination unavailable"),
    ("chassis status", "Destination unavailable"),
    ("power on", "Destination unavailable"),
    ("chassis bootdev pxe", "Destination unavailable"),
    ("dcmi power reading", "Destination unavailable"),
    ("chassis poh", "Destination unavailable"),
    ("mc watchdog reset", "uninitialized watchdog"),
    ("fru edit 0 field p 1 short", "resizing"),
    ("sensor thresh Fan\\ 1 unc 5", "Command illegal"),
    ("raw 0x3a 1", "Invalid command"),
    ("raw 0x2c 0x00 0x00", "Invalid command"),
]


@pytest.mark.parametrize(("command", "text"), REFUSED, ids=[command for command, _ in REFUSED])
async def test_ipmitool_says_what_is_refused(served: Served, command: str, text: str) -> None:
    served.machine.available = False
    arguments = [part.replace("\x00", " ") for part in command.replace("\\ ", "\x00").split()]
    _code, output = await served.ipmitool(*arguments)
    assert text in output
    assert served.machine.calls == []


async def test_a_machine_that_is_away_shows_no_readings(served: Served) -> None:
    served.machine.available = False
    code, output = await served.ipmitool("sdr", "elist")
    assert code == 0
    assert "Inlet Temp       | 10h | ns  |  7.1 | No Reading" in output
    assert "Controller access degraded or unavailable" in output


async def test_boot_flags_as_ironic_sets_them(served: Served) -> None:
    raw = ("raw", "0x00", "0x08")
    assert (await served.ipmitool(*raw, "0x03", "0x08"))[0] == 0
    assert (await served.ipmitool(*raw, "0x05", "0xe0", "0x04", "0x00", "0x00", "0x00"))[0] == 0
    _code, output = await served.ipmitool("chassis", "bootparam", "get", "5")
    assert "Boot Device Selector : Force PXE" in output
    assert "Options apply to all future boots" in output
    assert "BIOS EFI boot" in output
    assert (await served.ipmitool("power", "on"))[0] == 0
    assert "Force PXE" in (await served.ipmitool("chassis", "bootparam", "get", "5"))[1]
    assert (await served.ipmitool("chassis", "bootdev", "bios"))[0] == 0
    assert "Force Boot into BIOS Setup" in (await served.ipmitool("chassis", "bootparam", "get", "5"))[1]
    assert (await served.ipmitool("power", "reset"))[0] == 0
    assert "Boot Flag Invalid" in (await served.ipmitool("chassis", "bootparam", "get", "5"))[1]


async def test_event_log_from_event_to_clear(served: Served) -> None:
    for number in "123":
        assert (await served.ipmitool("event", number))[0] == 0
    _code, output = await served.ipmitool("sel", "elist")
    assert [line.split("|")[3].strip() for line in output.splitlines()] == [
        "Temperature #0x30",
        "Voltage #0x60",
        "Memory #0x53",
    ]
    assert "Deleted entry 2" in (await served.ipmitool("sel", "delete", "2"))[1]
    _code, output = await served.ipmitool("sel", "list")
    assert len(output.splitlines()) == 2
    assert "Sensor Type           : Memory" in (await served.ipmitool("sel", "get", "3"))[1]
    assert (await served.ipmitool("sel", "clear"))[0] == 0
    assert "SEL has no entries" in (await served.ipmitool("sel", "list"))[1]


async def test_watchdog_resets_the_machine(served: Served) -> None:
    assert "successfully" in (await served.ipmitool("mc", "watchdog", "set", "use=sms", "action=reset", "timeout=1"))[1]
    assert "restarted" in (await served.ipmitool("mc", "watchdog", "reset"))[1]
    async with asyncio.timeout(60):
        while not served.machine.calls:
            await asyncio.sleep(0.05)
    assert served.machine.calls[0][1] == "reset"
    assert "Hard reset" in (await served.ipmitool("sel", "elist"))[1]


async def test_statistics_count(served: Served) -> None:
    _code, output = await served.ipmitool("lan", "stats", "get", "1")
    counts = {name.strip(): int(value) for name, value in (line.split(":") for line in output.splitlines())}
    assert counts["UDP Rx Packet"] == counts["RMCP Rx Valid"] > 3
    assert counts["IP Tx Packet"] > 3


async def test_asset_tag_goes_into_the_inventory(served: Served) -> None:
    assert (await served.ipmitool("dcmi", "set_asset_tag", "RACK-1-7"))[0] == 0
    assert "RACK-1-7" in (await served.ipmitool("fru", "print", "0", direct=True))[1]


FREEIPMI_SHOWN: list[tuple[str, list[str]]] = [
    ("bmc-info", ["IPMI Version          : 2.0", "System Name                   : node1 in rack 1", "System GUID : "]),
    ("ipmi-chassis --get-chassis-status", ["System Power                        : off", "Chassis Identify state"]),
    ("ipmi-chassis --get-power-on-hours-counter", ["2 Hours 0 Minutes"]),
    ("ipmi-chassis --get-system-restart-cause", ["Restart cause"]),
    ("ipmi-chassis --get-chassis-capabilities", ["FRU Info Device Address : 20h"]),
    ("ipmi-chassis --chassis-identify=3", []),
    ("ipmi-sensors --quiet-cache", ["23.50", "12.03", "'OK'", "'S4/S5 soft-off'"]),
    ("ipmi-sensors --quiet-cache --output-sensor-thresholds", ["-10.00", "60.00", "70.00"]),
    ("ipmi-sel --quiet-cache --info", ["Number of log entries                  : 0"]),
    ("ipmi-fru --quiet-cache", ["FRU Product Name: Rack Server 9000", "FRU Board Part Number: X"]),
    ("ipmi-dcmi --get-system-power-statistics", ["Current Power                        : 187 Watts"]),
    ("ipmi-dcmi --get-dcmi-capability-info", ["Record Level SEL Flush upon Rollover               : Available"]),
    ("ipmi-dcmi --get-asset-tag", ["LAB-42"]),
    (
        "ipmi-config --category=core --checkout",
        ["Section Lan_Conf", "Maximum_Privilege_Cipher_Suite_Id_3           Admin"],
    ),
    ("ipmi-config --category=chassis --checkout", ["Power_Restore_Policy                          Off_State_AC_Apply"]),
    ("ipmi-config --category=sensors --checkout", ["Enable_Scanning_On_This_Sensor"]),
    ("ipmi-config --category=pef --checkout", ["Community_String                              public"]),
    ("ipmi-config --category=dcmi --checkout", ["Asset_Tag"]),
    ("bmc-device --get-self-test-results", ["No Error"]),
    ("bmc-device --get-acpi-power-state", ["S5"]),
    ("bmc-device --get-lan-statistics", ["UDP Packets Received"]),
    ("bmc-device --cold-reset", []),
    ("ipmi-raw 0 0 1", ["rcvd: 01 00 00 00 40 00"]),
]


@pytest.mark.parametrize(("command", "texts"), FREEIPMI_SHOWN, ids=[command for command, _ in FREEIPMI_SHOWN])
async def test_freeipmi_shows(served: Served, command: str, texts: list[str]) -> None:
    tool, *arguments = command.split()
    code, output = await served.freeipmi(tool, *arguments)
    # ipmi-config ends with 1 where a field does not apply: it knows no suite 17, and no BMC without IPMI 1.5.
    assert code == 0 or command.startswith("ipmi-config --category=core"), output
    for text in texts:
        assert text in output


async def test_pyghmis_client(served: Served) -> None:
    from pyghmi.ipmi import command

    def ask() -> dict[str, Any]:
        client = command.Command(bmc="127.0.0.1", userid="admin", password="secret", port=served.own_port)
        try:
            client.set_bootdev("network", persist=True, uefiboot=True)
            return {
                "power": client.get_power(),
                "boot": client.get_bootdev(),
                "sensors": {reading.name: reading.value for reading in client.get_sensor_data()},
                "inventory": dict(client.get_inventory()),
                "watts": client.get_system_power_watts(),
                "id": client.get_mci(),
                "net": client.get_net_configuration(),
                "log": list(client.get_event_log()),
                "health": client.get_health()["health"],
            }
        finally:
            client.ipmi_session.logout()

    said = await asyncio.wait_for(asyncio.to_thread(ask), 90)
    assert said["power"] == {"powerstate": "off"}
    assert said["boot"] == {"bootdev": "network", "persistent": True, "uefimode": True}
    assert said["sensors"]["Inlet Temp"] == 23.5
    assert said["inventory"]["System"]["Product name"] == "Rack Server 9000"
    assert said["watts"] == 187
    assert said["id"].startswith("node1")
    assert said["net"]["ipv4_address"].startswith("127.0.0.1")
    assert said["log"] == []
    assert said["health"] == 0
