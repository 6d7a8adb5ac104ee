"""Real Ironic over four bridged nodes: enrolled by `pypmi export ironic`, worked by its API (`make e2e`).

The tests share one installation and run in the order they stand here.
"""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ironic import INSTALLED, Ironic
from lab import PASSWORD, Lab
from stack import PYPMI, free_tcp_port, run, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NODES = (1, 2, 3, 4)
DUAL = {
    "ipmi_bridging": "dual", "ipmi_transit_channel": "0", "ipmi_transit_address": "0x20",
    "ipmi_local_address": "0x81",
}  # fmt: skip
URL = "http://192.0.2.2:8080/boot.ipxe"


@dataclass
class Stage:
    lab: Lab
    ironic: Ironic
    boot_port: int

    def log(self, since: int = 0) -> str:
        """What Ironic has logged from an offset on."""
        with self.ironic.process.log.open("rb") as stream:
            stream.seek(since)
            return stream.read().decode(errors="replace")

    @property
    def log_end(self) -> int:
        return self.ironic.process.log.stat().st_size

    def running(self, number: int) -> None:
        """Wait until the machine's system is up; before that it does not listen to its power button."""
        until(lambda: self.lab.board(number)["os"] == "running", 90, f"node{number} up")

    def boot_device(self, number: int) -> tuple[str | None, bool]:
        found = self.ironic.do("GET", f"/v1/nodes/node{number}/management/boot_device")
        return found["boot_device"], found["persistent"]

    @contextlib.contextmanager
    def changed(self, name: str, settings: dict[str, str]) -> Iterator[None]:
        """With other settings of the driver for a while."""
        info = self.ironic.node(name)["driver_info"] | {"ipmi_password": PASSWORD}
        self.ironic.change(name, "/driver_info", info | settings)
        try:
            yield
        finally:
            self.ironic.change(name, "/driver_info", info)

    def script(self, number: int) -> str:
        """What the machine's network card is given by the agent."""
        done = run("curl", "-sS", f"http://127.0.0.1:{self.boot_port}/ipxe/52-54-00-00-00-{number:02x}")
        assert done.code == 0, done.text
        return "network" if f"chain {URL}" in done.out else "disk"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("ironic")
    boot_port = free_tcp_port()
    lab = Lab(folder, len(NODES), boot={"listen": f"127.0.0.1:{boot_port}", "pxe_url": URL})
    # Ironic spaces its commands by address: each node is called by one of its own, as by the names of the export
    lab.fleet["gateway"]["listen"] = [f"127.0.0.{number}:{lab.port}" for number in NODES]
    lab.write_fleet()
    ironic = Ironic(folder)
    try:
        lab.start()
        ironic.start()
        yield Stage(lab, ironic, boot_port)
    finally:
        ironic.stop()
        lab.stop()


def test_ironic_is_installed():
    assert INSTALLED, "no Ironic here; run `make e2e`, which installs it"


def test_the_export_enrols_the_nodes(stage: Stage, tmp_path: Path):
    file = tmp_path / "nodes.yaml"
    words = ("--secrets", "--name", "127.0.0.{address}", "--output", str(file))
    done = run(*PYPMI, "--config", str(stage.lab.fleet_file), "export", "ironic", *words, timeout=60)
    assert done.code == 0, done.text
    stage.ironic.baremetal("create", str(file))
    for number in NODES:
        node = stage.ironic.node(f"node{number}")
        assert node["provision_state"] == "enroll"
        assert node["driver_info"]["ipmi_target_address"] == str(number)
        assert node["driver_info"]["ipmi_address"] == f"127.0.0.{number}"
    ports = {port["address"] for port in stage.ironic.get("/v1/ports")["ports"]}
    assert ports == {f"52:54:00:00:00:{number:02x}" for number in NODES}


def test_enrolled_nodes_become_manageable_and_are_known(stage: Stage):
    for number in NODES:
        stage.ironic.provision(f"node{number}", "manage", "manageable")
        node = stage.ironic.node(f"node{number}")
        assert node["power_state"] == "power off"
        assert node["last_error"] is None
        assert "vendor" in node["properties"], "mc info was understood"


def test_a_node_becomes_available(stage: Stage):
    stage.ironic.provision("node1", "provide", "available")
    assert stage.ironic.node("node1")["last_error"] is None
    stage.ironic.provision("node1", "manage", "manageable")


def test_power_on_of_all_at_one_time(stage: Stage):
    for number in NODES:
        stage.ironic.ask_power(f"node{number}", "power on")
    for number in NODES:
        until(lambda n=number: stage.ironic.settled(f"node{n}"), 90, f"node{number} settled")
        node = stage.ironic.node(f"node{number}")
        assert (node["power_state"], node["last_error"]) == ("power on", None)
        assert stage.lab.machine(number) == "on"
        assert len(stage.lab.board(number)["presses"]) == 1


def test_soft_off(stage: Stage):
    stage.running(1)
    stage.ironic.power("node1", "soft power off", "power off")
    board = stage.lab.board(1)
    assert board["power"] == "off"
    assert [event["what"] for event in board["events"]][-3:] == ["power button: soft off asked", "halted", "off"]


def test_power_off_holds_the_button(stage: Stage):
    stage.lab.control(2, "pc", soft_off="ignore")
    stage.running(2)
    stage.ironic.power("node2", "power off", "power off")
    board = stage.lab.board(2)
    assert board["power"] == "off"
    assert board["presses"][-1]["duration"] > 4


def test_reboot_and_soft_reboot(stage: Stage):
    for number, target in ((3, "rebooting"), (4, "soft rebooting")):
        stage.running(number)
        before = stage.lab.board(number)["pc_boots"]
        stage.ironic.power(f"node{number}", target, "power on")
        assert stage.lab.board(number)["pc_boots"] == before + 1


def test_somebody_at_the_button_is_seen(stage: Stage):
    assert stage.ironic.node("node1")["power_state"] == "power off"
    stage.lab.press(1)
    until(lambda: stage.ironic.node("node1")["power_state"] == "power on", 60, "the power sync to see it")
    assert not stage.ironic.node("node1")["maintenance"]


@pytest.mark.parametrize("mode", ["bios", "uefi"])
def test_every_boot_device_is_stored(stage: Stage, mode: str):
    stage.ironic.change("node2", "/properties/capabilities", f"boot_mode:{mode}")
    offered = stage.ironic.do("GET", "/v1/nodes/node2/management/boot_device/supported")["supported_boot_devices"]
    assert set(offered) == {"pxe", "disk", "cdrom", "bios", "safe"}
    for count, device in enumerate(sorted(offered)):
        persistent = bool(count % 2) is (mode == "uefi")
        stage.ironic.do(
            "PUT", "/v1/nodes/node2/management/boot_device", {"boot_device": device, "persistent": persistent}
        )  # fmt: skip
        assert stage.boot_device(2) == (device, persistent)
        said = stage.lab.ipmitool("chassis", "bootparam", "get", "5", target=2).out
        assert ("BIOS EFI boot" in said) == (mode == "uefi")


def test_a_network_boot_reaches_the_machine_once(stage: Stage):
    """As an installation goes: boot from the network once, and from the disk when the installer restarts."""
    assert stage.lab.machine(2) == "off"
    stage.ironic.do("PUT", "/v1/nodes/node2/management/boot_device", {"boot_device": "pxe", "persistent": False})
    stage.ironic.power("node2", "power on", "power on")
    assert [stage.script(2) for _ in range(3)] == ["network", "disk", "disk"]
    until(lambda: stage.boot_device(2)[0] is None, 20, "the intent spent")
    stage.ironic.do("PUT", "/v1/nodes/node2/management/boot_device", {"boot_device": "pxe", "persistent": True})
    until(lambda: stage.script(2) == "network", 20, "a lasting intent")
    assert stage.script(2) == "network"
    stage.ironic.do("PUT", "/v1/nodes/node2/management/boot_device", {"boot_device": "disk", "persistent": True})
    until(lambda: stage.script(2) == "disk", 20, "the disk again")


def test_nmi(stage: Stage):
    stage.running(3)
    before = stage.lab.board(3)["pc_nmis"]
    stage.ironic.do("PUT", "/v1/nodes/node3/management/inject_nmi", {})
    until(lambda: stage.lab.board(3)["pc_nmis"] == before + 1, 30, "the NMI")
    assert stage.ironic.node("node3")["power_state"] == "power on"


def test_vendor_passthru(stage: Stage):
    since = stage.log_end
    path = "/v1/nodes/node3/vendor_passthru?method="
    stage.ironic.do("POST", path + "send_raw", {"raw_bytes": "0x06 0x01"})
    stage.ironic.do("POST", path + "bmc_reset", {"warm": True})
    stage.ironic.do("POST", path + "bmc_reset", {"warm": False})
    until(lambda: stage.ironic.settled("node3"), 60, "node3 settled")
    time.sleep(3)
    stage.ironic.do("GET", "/v1/nodes/node3/management/boot_device")
    assert stage.ironic.node("node3")["power_state"] == "power on"
    for line in stage.log(since).splitlines():
        assert not (" ERROR " in line and "ipmitool" in line), line


def test_sensors_come_as_notifications(stage: Stage):
    """A node's records name the node itself, so that bridged readings are its own and not the gateway's."""

    def readings() -> dict[str, dict[str, dict[str, dict[str, str]]]]:
        """The last reading of each node, by the kind of sensor and its name."""
        found = {}
        for line in stage.log().splitlines():
            _, mark, text = line.partition(' {"message_id"')
            if mark and "notification.hardware.ipmi.metrics" in line:
                data = json.loads(mark + text)["payload"]
                found[data["node_name"]] = data["payload"]
        return found

    until(lambda: set(readings()) == {f"node{number}" for number in NODES}, 90, "sensor data of all nodes")
    for sensors in readings().values():
        names = {name.partition(" (0x")[0] for kind in sensors.values() for name in kind}
        assert {"Power State", "Power Unit", "Agent Link", "WLAN signal", "Board uptime"} <= names
        (signal,) = (kind for name, kind in sensors["Other"].items() if name.startswith("WLAN signal"))
        assert re.match(r"-\d+ .*Decibels", signal["Sensor Reading"])


def test_console_by_socat(stage: Stage):
    stage.running(3)
    for _ in range(2):  # and again after a session
        stage.ironic.do("PUT", "/v1/nodes/node3/states/console", {"enabled": True})

        def url() -> str | None:
            info = stage.ironic.get("/v1/nodes/node3/states/console")["console_info"]
            return info["url"] if info else None

        host, _, port = until(url, 60, "the console's address").removeprefix("tcp://").rpartition(":")
        assert "node3" in talk(host, int(port))
        stage.ironic.do("PUT", "/v1/nodes/node3/states/console", {"enabled": False})
        until(lambda: not stage.ironic.get("/v1/nodes/node3/states/console")["console_enabled"], 60, "console off")


def talk(host: str, port: int) -> str:
    """Press enter until the machine answers; returns what it said."""
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=10) as sock:
                sock.settimeout(2)
                while time.monotonic() < deadline:
                    sock.sendall(b"\r")
                    try:
                        data = sock.recv(4096)
                    except TimeoutError:
                        continue
                    if not data:
                        break
                    seen += data
                    if seen.count(b"root@node3") >= 2:
                        return seen.decode(errors="replace")
        except OSError:  # socat is not there yet
            pass
        time.sleep(0.5)
    raise AssertionError(f"no answer on the console; it said {seen!r}")


@pytest.mark.parametrize(
    "settings", [{"ipmi_priv_level": "OPERATOR"}, {"ipmi_cipher_suite": "3"}, {"ipmi_cipher_suite": "17"}, DUAL],
    ids=["operator", "suite 3", "suite 17", "dual bridging"],
)  # fmt: skip
def test_ways_to_log_in(stage: Stage, settings: dict[str, str]):
    """The driver's own settings: privilege, cipher suite, bridging."""
    with stage.changed("node4", settings):
        assert stage.boot_device(4) is not None


@pytest.mark.parametrize(
    "settings", [{"ipmi_priv_level": "USER"}, {"ipmi_password": "wrong"}], ids=["user", "password"]
)
def test_who_may_not_moves_nothing(stage: Stage, settings: dict[str, str]):
    presses = len(stage.lab.board(4)["presses"])
    with stage.changed("node4", settings):
        stage.ironic.ask_power("node4", "power off")
        until(lambda: stage.ironic.settled("node4"), 90, "node4 settled")
        assert stage.ironic.node("node4")["last_error"]
    assert len(stage.lab.board(4)["presses"]) == presses
    assert stage.lab.machine(4) == "on"
    until(lambda: stage.ironic.node("node4")["power_state"] == "power on", 60, "the truth again")


def test_a_node_that_is_away_is_unknown_and_not_off(stage: Stage):
    stage.running(4)
    assert stage.ironic.node("node4")["power_state"] == "power on"
    since = stage.log_end
    stage.lab.control(4, "network", mode="blackhole")
    until(lambda: stage.lab.ipmitool("power", "status", target=4).code != 0, 60, "the gateway to know it")
    said = stage.lab.ipmitool("power", "status", target=4)
    assert "Chassis Power is" not in said.out
    assert "Destination unavailable" in said.err
    stage.ironic.ask_power("node4", "power on")
    until(lambda: stage.ironic.node("node4")["last_error"], 90, "an error for the operator")
    node = stage.ironic.node("node4")
    assert re.search(r"power state.*IPMI call failed", node["last_error"]), node["last_error"]
    # the power sync gives up after its retries: maintenance, with the reason, and an unknown power
    until(lambda: stage.ironic.node("node4")["maintenance"], 120, "maintenance")
    node = stage.ironic.node("node4")
    assert node["power_state"] != "power off"
    assert node["power_state"] in (None, "error")
    assert node["fault"] == "power failure"
    assert node["maintenance_reason"]
    assert "power off" not in json.dumps([node["power_state"], node["target_power_state"]])
    assert "Destination unavailable" in stage.log(since)
    assert "Node busy" not in stage.log(since), "a text that ipmitool's own retries would repeat"
    assert stage.lab.machine(4) == "on"

    stage.lab.control(4, "network", mode="up")
    until(lambda: stage.lab.ipmitool("power", "status", target=4).code == 0, 60, "the node back")


def test_a_press_that_is_not_followed_is_an_error(stage: Stage):
    stage.ironic.power("node1", "power off", "power off")
    stage.lab.control(1, "pc", psu_ok=False)
    stage.ironic.ask_power("node1", "power on")
    until(lambda: stage.ironic.node("node1")["last_error"], 120, "the error")
    until(lambda: stage.ironic.settled("node1"), 60, "node1 settled")
    node = stage.ironic.node("node1")
    assert node["power_state"] != "power on"
    assert "power on" in node["last_error"]
    stage.lab.control(1, "pc", psu_ok=True)


def test_no_command_of_the_driver_is_unknown(stage: Stage):
    """Each refused command costs Ironic its retries."""
    refused = re.findall(r"failed: (?:Invalid command|Invalid data field|Parameter out of range)", stage.log())
    assert refused == []
