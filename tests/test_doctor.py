"""`pypmi doctor` names the right cause, and no other, in broken set-ups: real broker, services, simulated boards.

One fleet of real processes, secured as `pypmi init` makes it. Each test breaks one thing, in the operator's own file or
in a service, and mends it again.
"""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pypmi_cli.setup import pki
from pypmi_cli.setup.directory import mosquitto_conf
from stack import PYPMI, free_tcp_port, free_udp_base, run, until

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("doctor")]

MODULES = {"esp8266-agent": "esp8266_agent", "sol-relay": "sol_relay", "ipmi-gateway": "ipmi_gateway"}
Finding = dict[str, Any]
Change = Callable[[dict[str, Any]], None]


class Lab:
    """A fleet whose parts are started and stopped one by one. Nodes `one` and `two` are well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt, self.udp, self.health = free_tcp_port(), free_udp_base(1), free_tcp_port()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        boards = self.simulate("boards", "--boards", "2")
        self.boards = boards["boards"]
        self.control = boards["control"]["port"]
        board = self.boards[0]["port"]
        self.fleet: dict[str, Any] = {
            "version": 1, "fleet": "lab",
            "mqtt": {
                "url": f"mqtts://localhost:{self.mqtt}", "ca_file": "tls/ca.crt", "username": "{service}",
                "password": {"file": "secrets/mqtt/{service}"},
            },
            "gateway": {"listen": [f"127.0.0.1:{self.udp}"]},
            "users": [{"name": "admin", "password": {"file": "secrets/ipmi/admin"}}],
            "services": {"ipmi-gateway": {"health": f"127.0.0.1:{self.health}"}},
            "nodes": [
                {
                    "id": name, "address": number,
                    "hardware": {"type": "esp8266", "host": "127.0.0.1", "port": board["port"]},
                    "console": {"type": "esp8266", "port": board["port"] + 0},
                }
                for number, (name, board) in enumerate(zip(("one", "two"), self.boards, strict=True), start=1)
            ],
        }  # fmt: skip
        del board
        for node, simulated in zip(self.fleet["nodes"], self.boards, strict=True):
            node["console"]["port"] = simulated["bridge_port"]
        self.write(self.fleet)
        self.init()
        (folder / "run").mkdir()
        config = folder / "run/mosquitto.conf"
        user = "root" if os.geteuid() == 0 else None
        made = mosquitto_conf(str(folder / "mosquitto"), None, listener=f"{self.mqtt} 127.0.0.1", user=user)
        config.write_text(made)
        self.start("broker")
        for name in MODULES:
            self.start(name)
        until(self.well, 60, "the fleet is up")

    def write(self, fleet: dict[str, Any], name: str = "fleet.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(fleet))
        return path

    def init(self) -> None:
        done = run(*PYPMI, "init", str(self.folder))
        assert done.code == 0, done.text

    def simulate(self, name: str, *options: str) -> dict[str, Any]:
        ready = self.folder / f"{name}.json"
        command = [sys.executable, "-m", "pypmi_simulator", "--no-udp", "--ready-file", str(ready), *options]
        self.running[name] = subprocess.Popen(
            [*command, "--control", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until(ready.exists, 30, "simulator ready")
        found: dict[str, Any] = json.loads(ready.read_text())
        return found

    def command(self, name: str, *, state: str | None = None) -> list[str]:
        if name == "broker":
            return ["mosquitto", "-c", str(self.folder / "run/mosquitto.conf")]
        return [
            sys.executable, "-m", MODULES[name], "--config", str(self.folder / "fleet.yaml"), "--name", name,
            "--state-dir", str(self.folder / "state" / (state or name)),
        ]  # fmt: skip

    def start(self, name: str, *before: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*before, *self.command(name)], stdout=log, stderr=log, start_new_session=True
            )

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGTERM)  # faketime runs the service as a child
        process.wait(30)

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        self.end(name)
        try:
            yield
        finally:
            self.start(name)
            until(self.well, 60, f"well again with {name}")

    def stop(self) -> None:
        for name in reversed(list(self.running)):
            self.end(name)

    # -- looking -------------------------------------------------------------------------------------------------------

    def doctor(self, *words: str, config: str = "fleet.yaml", options: tuple[str, ...] = ()) -> list[Finding]:
        done = run(*PYPMI, "--config", str(self.folder / config), *options, "doctor", *words, "--json", timeout=90)
        assert "Traceback" not in done.err, done.err
        findings: list[Finding] = json.loads(done.out)
        assert done.code == int(any(finding["level"] == "fault" for finding in findings)), done.text
        return findings

    def variant(self, change: Change) -> str:
        """The operator's own copy of fleet.yaml, with something changed."""
        fleet = copy.deepcopy(self.fleet)
        change(fleet)
        self.write(fleet, "mine.yaml")
        return "mine.yaml"

    def nodes(self) -> dict[str, Any]:
        done = run(*PYPMI, "--config", str(self.folder / "fleet.yaml"), "nodes", "--json")
        return {node["id"]: node for node in json.loads(done.out)} if done.code == 0 else {}

    def well(self) -> bool:
        found = self.nodes()
        ready = run(
            "ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.udp), "-U", "admin", "-f",
            str(self.folder / "secrets/ipmi/admin"), "-t", "1", "-N", "2", "-R", "1", "power", "status",
        )  # fmt: skip
        return (
            ready.code == 0
            and all(node in found and found[node]["available"] for node in ("one", "two"))
            and all(found[node]["console"] for node in ("one", "two"))
        )

    def publish(self, account: str, topic: str, *words: str) -> None:
        secret = (self.folder / f"secrets/mqtt/{account}").read_text().strip()
        done = run(
            "mosquitto_pub", "-h", "localhost", "-p", str(self.mqtt), "--cafile", str(self.folder / "tls/ca.crt"),
            "-V", "5", "-q", "1", "-u", account, "-P", secret, "-t", topic, *words,
        )  # fmt: skip
        assert done.code == 0, done.text

    def read(self, topic: str) -> bytes:
        secret = (self.folder / "secrets/mqtt/operator").read_text().strip()
        done = run(
            "mosquitto_sub", "-h", "localhost", "-p", str(self.mqtt), "--cafile", str(self.folder / "tls/ca.crt"),
            "-u", "operator", "-P", secret, "-t", topic, "-C", "1", "-W", "10",
        )  # fmt: skip
        return done.out.encode()

    def simulator(self, **request: Any) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.control), 10) as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
        assert answer["ok"], answer
        return answer

    def reload(self) -> None:
        """Have all read their files anew, the broker first: what an agent may not say yet is lost."""
        self.running["broker"].send_signal(signal.SIGHUP)
        time.sleep(0.5)
        for name in MODULES:
            self.running[name].send_signal(signal.SIGHUP)

    @contextmanager
    def acl(self, change: Callable[[str], str]) -> Iterator[None]:
        """Other access rules at the broker."""
        path = self.folder / "mosquitto/acl"
        before = path.read_text()
        after = change(before)
        assert after != before
        try:
            path.write_text(after)
            self.running["broker"].send_signal(signal.SIGHUP)
            time.sleep(0.5)
            yield
        finally:
            path.write_text(before)
            self.running["broker"].send_signal(signal.SIGHUP)
            time.sleep(0.5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield made
    finally:
        made.stop()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def faults(findings: list[Finding]) -> set[str]:
    return {finding["code"] for finding in findings if finding["level"] == "fault"}


def only(findings: list[Finding], code: str) -> Finding:
    """The one cause that is named: nothing else may be called broken."""
    assert faults(findings) == {code}, json.dumps(findings, indent=1)
    finding = next(finding for finding in findings if finding["code"] == code)
    assert finding["fix"]
    return finding


# -- nothing is broken -------------------------------------------------------------------------------------------------


def test_a_fleet_that_is_well(lab: Lab):
    findings = lab.doctor()
    assert {finding["level"] for finding in findings} == {"ok"}, json.dumps(findings, indent=1)
    links = {finding["link"] for finding in findings}
    assert links == {
        "configuration", "dns", "broker", "tls", "login", "access", "agent", "clock", "node", "status", "console",
        "gateway", "ipmi-login", "bridge",
    }  # fmt: skip
    presses = [lab.simulator(op="presses", board=number)["presses"] for number in (1, 2)]
    assert presses == [[], []]  # and no button was pressed


def test_for_people(lab: Lab):
    done = run(*PYPMI, "--config", str(lab.folder / "fleet.yaml"), "doctor", "one", "-v")
    assert done.code == 0
    assert "ok tls: the broker's certificate is good for localhost" in done.out
    assert done.out.splitlines()[-1].startswith("nothing is broken")


# -- between here and the broker ---------------------------------------------------------------------------------------


def test_1_name_of_the_broker_unknown(lab: Lab):
    findings = lab.doctor(options=("--mqtt", "mqtts://broker.invalid:8883"))
    assert "broker.invalid" in only(findings, "dns")["text"]
    # what can be looked at without the broker is looked at
    assert any(finding["link"] == "bridge" and finding["level"] == "ok" for finding in findings)


def test_2_broker_not_running(lab: Lab):
    finding = only(lab.doctor(options=("--mqtt", f"mqtts://localhost:{free_tcp_port()}")), "broker-refused")
    assert "start the broker" in finding["fix"]


def test_3_plain_tcp_to_a_tls_port(lab: Lab):
    config = lab.variant(lambda fleet: fleet["mqtt"].update(url=f"mqtt://localhost:{lab.mqtt}", ca_file=None))
    assert "mqtts://" in only(lab.doctor(config=config), "tls-broker")["fix"]


@pytest.mark.nightly
def test_4_tls_to_a_plain_port(lab: Lab, tmp_path):
    port = free_tcp_port()
    config = tmp_path / "plain.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port), 10)
        only(lab.doctor(options=("--mqtt", f"mqtts://localhost:{port}")), "plain-broker")
    finally:
        broker.terminate()
        broker.wait(10)


def test_5_wrong_certificate_authority(lab: Lab, tmp_path):
    pki.make_ca("another", tmp_path / "other.crt", tmp_path / "other.key")
    config = lab.variant(lambda fleet: fleet["mqtt"].update(ca_file=str(tmp_path / "other.crt")))
    assert "tls/ca.crt" in only(lab.doctor(config=config), "certificate-authority")["fix"]


def test_6_certificate_for_another_name(lab: Lab):
    # another spelling of the loopback address, which the certificate does not have
    config = lab.variant(lambda fleet: fleet["mqtt"].update(url=f"mqtts://127.1:{lab.mqtt}"))
    assert "pypmi init --host" in only(lab.doctor(config=config), "certificate-name")["fix"]


def test_7_wrong_broker_password(lab: Lab, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password\n")
    finding = only(lab.doctor(options=("--password-file", str(wrong))), "account-refused")
    assert "operator" in finding["text"]


def test_8_no_account_where_one_is_needed(lab: Lab):
    config = lab.variant(lambda fleet: fleet["mqtt"].update(username=None, password=None))
    only(lab.doctor(config=config), "account-needed")


def test_9_secret_missing(lab: Lab):
    config = lab.variant(lambda fleet: fleet["mqtt"].update(password={"file": "secrets/mqtt/nobody"}))
    assert "nobody" in only(lab.doctor(config=config), "secret-unreadable")["text"]


@pytest.mark.nightly
def test_10_not_a_broker_at_all(lab: Lab):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        port = server.getsockname()[1]
        config = lab.variant(lambda fleet: fleet["mqtt"].update(url=f"mqtt://localhost:{port}", ca_file=None))
        only(lab.doctor(config=config), "not-mqtt")
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.nightly
def test_11_broker_with_mqtt_3_only(lab: Lab):
    port = free_tcp_port()
    broker = subprocess.Popen(
        [sys.executable, "-m", "pypmi_cli.broker", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: listens(port), 30)

        def change(fleet: dict[str, Any]) -> None:
            fleet["mqtt"] = {"url": f"mqtt://127.0.0.1:{port}"}

        assert "3.1.1" in only(lab.doctor(config=lab.variant(change)), "mqtt-version")["fix"]
    finally:
        broker.terminate()
        broker.wait(10)


# -- at the broker -----------------------------------------------------------------------------------------------------


def test_12_access_rules_deny_commands(lab: Lab):
    with lab.acl(lambda rules: _without(rules, "operator", "topic write nodes/+/power/set")):
        finding = only(lab.doctor(), "may-not-write")
    assert "operator" in finding["text"]


def test_13_access_rules_deny_reading(lab: Lab):
    with lab.acl(lambda rules: _without(rules, "operator", "topic read ", "topic readwrite ")):
        assert "operator" in only(lab.doctor(), "may-not-read")["text"]


def _without(rules: str, user: str, *starts: str) -> str:
    head, own = rules.split(f"user {user}\n")
    own, *rest = own.split("\n\n", 1)
    kept = "\n".join(line for line in own.splitlines() if not line.startswith(starts))
    return f"{head}user {user}\n{kept}\n\n" + "".join(rest)


@pytest.mark.nightly
def test_14_wrong_topic_prefix(lab: Lab):
    with lab.acl(lambda rules: rules + "\nuser operator\ntopic readwrite #\n"):
        finding = only(lab.doctor(options=("--prefix", "lab/rack1")), "prefix")
    assert "lab/rack1" in finding["text"]


def test_15_a_command_is_retained(lab: Lab):
    with lab.acl(lambda rules: rules + "\nuser operator\ntopic readwrite nodes/+/power/set\n"):
        lab.publish("operator", "nodes/one/power/set", "-r", "-m", "on")
        try:
            findings = lab.doctor()
        finally:
            lab.publish("operator", "nodes/one/power/set", "-r", "-n")
    assert not faults(findings)
    (warning,) = [finding for finding in findings if finding["code"] == "retained-command"]
    assert (warning["node"], "-r -n" in warning["fix"]) == ("one", True)
    assert lab.nodes()["one"]["power"] == "off"


# -- agents ------------------------------------------------------------------------------------------------------------


def test_16_no_agent_running(lab: Lab):
    with lab.without("esp8266-agent"):
        finding = only(lab.doctor("one"), "agent-away")
    assert "esp8266-agent" in finding["text"]
    assert "esp8266-agent" in finding["fix"]


def test_17_nothing_was_ever_started(lab: Lab, tmp_path):
    port = free_tcp_port()
    config = tmp_path / "plain.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:

        def change(fleet: dict[str, Any]) -> None:
            fleet["mqtt"] = {"url": f"mqtt://127.0.0.1:{port}"}

        until(lambda: listens(port), 10)
        only(lab.doctor(config=lab.variant(change)), "nobody")
    finally:
        broker.terminate()
        broker.wait(10)


def test_18_agent_hangs(lab: Lab):
    process = lab.running["esp8266-agent"]
    process.send_signal(signal.SIGSTOP)
    try:
        finding = only(lab.doctor("one"), "agent-silent")
    finally:
        process.send_signal(signal.SIGCONT)
        until(lab.well, 60)
    assert "does not answer" in finding["text"]


def test_19_node_given_to_another_agent(lab: Lab):
    config = lab.variant(lambda fleet: fleet["nodes"][0].update(agent="rack2-agent"))
    finding = only(lab.doctor("one", config=config), "other-agent")
    assert "rack2-agent" in finding["text"]


@pytest.mark.nightly
def test_20_node_that_the_agent_does_not_know_yet(lab: Lab):
    hardware = {"type": "esp8266", "host": "127.0.0.1", "port": free_tcp_port()}
    config = lab.variant(lambda fleet: fleet["nodes"].append({"id": "new", "hardware": hardware}))
    findings = lab.doctor("one,two,new", config=config)
    assert faults(findings) == {"agent-without-node", "board-unreachable"}
    assert {finding["node"] for finding in findings if finding["level"] == "fault"} == {"new"}


def test_21_node_that_nobody_knows(lab: Lab):
    assert "one, two" in only(lab.doctor("three"), "node-unknown")["fix"]


def test_22_two_agents_with_one_name(lab: Lab):
    lab.end("esp8266-agent")
    loop = 'while :; do "$@"; sleep 0.3; done'
    twins = [
        subprocess.Popen(
            ["sh", "-c", loop, "sh", *lab.command("esp8266-agent", state=state)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for state in ("esp8266-agent", "twin")
    ]  # fmt: skip
    try:
        until(lambda: "one" in lab.nodes(), 30)
        # what else is seen depends on the moment: the two end each other all the time
        until(lambda: "twins" in faults(lab.doctor("one")), 60, "twins are noticed")
    finally:
        for twin in twins:
            os.killpg(twin.pid, signal.SIGKILL)
            twin.wait()
        lab.start("esp8266-agent")
        until(lab.well, 60)


def test_23_clocks_differ(lab: Lab):
    lab.end("esp8266-agent")
    lab.start("esp8266-agent", "faketime", "-f", "+90s")
    try:
        until(lambda: lab.nodes().get("one", {}).get("available"), 60)
        finding = only(lab.doctor("one"), "clock")
    finally:
        lab.end("esp8266-agent")
        lab.start("esp8266-agent")
        until(lab.well, 60)
    assert "ahead of" in finding["text"]
    assert "NTP" in finding["fix"]


def test_clock_of_the_gateway(lab: Lab):
    lab.end("ipmi-gateway")
    lab.start("ipmi-gateway", "faketime", "-f", "-90s")
    try:
        until(lambda: not {"gateway-down", "gateway-silent", "bridge-unreachable"} & faults(lab.doctor("one")), 60)
        finding = only(lab.doctor("one"), "gateway-clock")
    finally:
        lab.end("ipmi-gateway")
        lab.start("ipmi-gateway")
        until(lab.well, 60)
    assert "behind" in finding["text"]
    assert "NTP" in finding["fix"]


def test_24_another_version_of_the_contract(lab: Lab):
    # an agent says it again as soon as it has learned more, such as the board's firmware
    until(lambda: json.loads(lab.read("nodes/two/info"))["firmware"], 30)
    info = json.loads(lab.read("nodes/two/info"))
    lab.publish("esp8266-agent", "nodes/two/info", "-r", "-m", json.dumps({**info, "contract": 2}))
    try:
        findings = lab.doctor("two")
    finally:
        lab.publish("esp8266-agent", "nodes/two/info", "-r", "-m", json.dumps(info))
    assert not faults(findings)
    (warning,) = [finding for finding in findings if finding["code"] == "contract-version"]
    assert "update" in warning["fix"]


# -- boards ------------------------------------------------------------------------------------------------------------


@contextmanager
def serving(lab: Lab, change: Change) -> Iterator[None]:
    """The agent works a fleet with something changed in it."""
    before = (lab.folder / "fleet.yaml").read_text()
    fleet = copy.deepcopy(lab.fleet)
    change(fleet)
    lab.write(fleet)
    lab.init()
    lab.reload()
    ids = [node["id"] for node in fleet["nodes"]]
    try:
        until(lambda: all(node["agent"] for node in lab.nodes().values() if node["id"] in ids), 30)
        yield
    finally:
        (lab.folder / "fleet.yaml").write_text(before)
        lab.init()
        lab.reload()
        until(lab.well, 60)


def with_node(**hardware: Any) -> Change:
    node = {"id": "three", "address": 3, "hardware": {"type": "esp8266", "host": "127.0.0.1", **hardware}}
    return lambda fleet: fleet["nodes"].append(node)


def of_board(findings: list[Finding], code: str) -> Finding:
    """The board's trouble, beside the fact that its node can't be worked."""
    assert faults(findings) == {"hardware-unreachable", code}, json.dumps(findings, indent=1)
    assert {finding["node"] for finding in findings if finding["level"] == "fault"} == {"three"}
    return next(finding for finding in findings if finding["code"] == code)


def test_25_board_unreachable(lab: Lab):
    with serving(lab, with_node(port=free_tcp_port())):
        finding = of_board(lab.doctor(), "board-unreachable")
    assert "refused" in finding["text"]
    assert "pypmi scan" in finding["fix"]


def test_26_board_not_set_up(lab: Lab):
    blank = lab.simulate("blank", "--boards", "1", "--blank")["boards"][0]
    with serving(lab, with_node(port=blank["port"])):
        finding = of_board(lab.doctor("three"), "board-not-set-up")
    lab.end("blank")
    assert "esp8266-agent --provision three" in finding["fix"]
    assert "relay pin 0" in finding["text"]


@pytest.mark.nightly
def test_27_another_board_at_this_address(lab: Lab):
    other = lab.simulate("other", "--boards", "1", "--name-format", "kitchen{}")["boards"][0]
    with serving(lab, with_node(port=other["port"], identification="three")):
        finding = of_board(lab.doctor("three"), "wrong-board")
    lab.end("other")
    assert "kitchen1" in finding["text"]


@pytest.mark.nightly
def test_28_no_board_at_this_address(lab: Lab):
    with serving(lab, with_node(port=lab.mqtt)):
        findings = lab.doctor("three")
    assert faults(findings) in ({"hardware-unreachable", "not-a-bridge"}, {"hardware-unreachable", "board-silent"})


def test_29_two_nodes_on_one_board(lab: Lab):
    config = lab.variant(with_node(port=lab.boards[0]["port"]))
    findings = lab.doctor("one,two", config=config)
    assert "one" in only(findings, "shared-board")["text"]


def test_30_the_button_works_and_the_machine_does_not_follow(lab: Lab):
    lab.simulator(op="pc", board=2, psu_ok=False)
    try:
        # without a yes nothing is pressed
        refused = run(*PYPMI, "--config", str(lab.folder / "fleet.yaml"), "doctor", "two", "--press")
        assert refused.code == 2, refused.text
        assert "--yes" in refused.err
        assert lab.simulator(op="presses", board=2)["presses"] == []
        finding = only(lab.doctor("two", "--press", "--yes"), "power-fault")
        assert "power pins" in finding["fix"]
        # it stands, so that later looks see it too, without a press
        presses = lab.simulator(op="presses", board=2)["presses"]
        assert "status.active" in only(lab.doctor("two"), "power-fault")["fix"]
        assert lab.simulator(op="presses", board=2)["presses"] == presses
    finally:
        lab.simulator(op="pc", board=2, psu_ok=True)
    findings = lab.doctor("two", "--press", "--yes")
    assert not faults(findings)
    assert any("followed a press" in finding["text"] for finding in findings)
    findings = lab.doctor("two", "--press", "--yes")
    assert [finding["text"] for finding in findings if finding["code"] == "not-pressed"]  # it is on
    done = run(*PYPMI, "--config", str(lab.folder / "fleet.yaml"), "power", "two", "off", "--wait", timeout=90)
    assert done.code == 0, done.text


@pytest.mark.nightly
def test_31_no_status_input(lab: Lab):
    with serving(lab, lambda fleet: fleet["nodes"][1]["hardware"].update(status=None)):
        until(lambda: "status" not in lab.nodes()["two"]["capabilities"], 30)
        findings = lab.doctor("two")
    assert [finding["code"] for finding in findings if finding["level"] == "warning"][:1] == ["no-status-input"]


# -- console -----------------------------------------------------------------------------------------------------------


def test_32_console_relay_not_running(lab: Lab):
    with lab.without("sol-relay"):
        findings = lab.doctor("one")
    assert "sol-relay" in only(findings, "relay-away")["fix"]


@pytest.mark.nightly
def test_33_console_port_not_there(lab: Lab):
    def change(fleet: dict[str, Any]) -> None:
        fleet["nodes"][0]["console"] = {"type": "tcp", "host": "127.0.0.1", "port": free_tcp_port()}

    with serving(lab, change):
        until(lambda: not lab.nodes()["one"]["console"], 30)
        only(lab.doctor("one"), "console-port")


# -- gateway -----------------------------------------------------------------------------------------------------------


def test_34_gateway_not_running(lab: Lab):
    with lab.without("ipmi-gateway"):
        finding = only(lab.doctor("one"), "gateway-down")
    assert str(lab.udp) in finding["text"]


@pytest.mark.nightly
def test_34b_gateway_on_all_addresses(lab: Lab):
    config = lab.variant(lambda fleet: fleet["gateway"].update(listen=[f"[::]:{lab.udp}"]))
    assert not faults(lab.doctor("one", config=config))
    with lab.without("ipmi-gateway"):
        assert "none is on the broker" in only(lab.doctor("one", config=config), "gateway-down")["text"]
    # without the broker it is not known whether there is one: no fault is made of it
    options = ("--mqtt", f"mqtts://localhost:{free_tcp_port()}")
    other = lab.variant(lambda fleet: fleet["gateway"].update(listen=[f"[::]:{free_udp_base(1)}"]))
    only(lab.doctor("one", config=other, options=options), "broker-refused")


def test_35_something_else_on_the_gateways_port(lab: Lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:  # as behind a firewall that drops
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        finding = only(lab.doctor("one", "--gateway", f"127.0.0.1:{port}"), "gateway-silent")
    assert "firewall" in finding["fix"]


def test_36_wrong_ipmi_password(lab: Lab, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    finding = only(lab.doctor("one", "--ipmi-user", "admin", "--ipmi-password-file", str(wrong)), "ipmi-password")
    assert "admin" in finding["text"]


def test_37_unknown_ipmi_user(lab: Lab, tmp_path):
    some = tmp_path / "some"
    some.write_text("some\n")
    finding = only(lab.doctor("one", "--ipmi-user", "root", "--ipmi-password-file", str(some)), "ipmi-user")
    assert "root" in finding["text"]


def test_38_gateway_with_an_older_fleet(lab: Lab):
    config = lab.variant(lambda fleet: fleet["nodes"][0].update(address=77))
    finding = only(lab.doctor("one", config=config), "bridge-unreachable")
    assert "-t 77" in finding["text"]


# -- files -------------------------------------------------------------------------------------------------------------


def test_39_secret_that_everybody_can_read(lab: Lab):
    secret = lab.folder / "secrets/ipmi/admin"
    secret.chmod(0o644)
    try:
        findings = lab.doctor("one")
    finally:
        secret.chmod(0o600)
    assert not faults(findings)
    (warning,) = [finding for finding in findings if finding["code"] == "secret-readable"]
    assert "chmod 600" in warning["fix"]


def test_40_mistake_in_the_fleet(lab: Lab):
    config = lab.variant(lambda fleet: fleet["nodes"][0].update(adress=7))
    findings = lab.doctor(config=config)
    assert "adress" in only(findings, "configuration")["text"]
