"""The tool's parts that need no broker: which nodes are meant, which broker is meant, what keys mean."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from pypmi.config.load import LoadedFleet, parse_fleet
from pypmi.config.secrets import SecretSource
from pypmi.contract import SensorInfo, ServiceInfo, ServiceKind, Thresholds, utc_now
from pypmi_cli.access import AccessOptions, resolve
from pypmi_cli.commands.sensors import status_of
from pypmi_cli.doctor.gateway import gateway_places
from pypmi_cli.doctor.login import GatewayOptions
from pypmi_cli.escape import Escape, EscapeFilter
from pypmi_cli.exits import MEANINGS, Exit, ToolError, worst
from pypmi_cli.output import age, span
from pypmi_cli.selection import choose, natural_key

NODES = ["node1", "node2", "node3", "node10", "rack1-a", "rack1-b"]


# -- which nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("node1", ["node1"]),
        ("node*", ["node1", "node2", "node3", "node10"]),
        ("node?", ["node1", "node2", "node3"]),
        ("node[2-10]", ["node2", "node3", "node10"]),
        ("node[13]", ["node1", "node3"]),
        ("rack1-*,node2", ["rack1-a", "rack1-b", "node2"]),
        (" node1 , node1 ,", ["node1"]),
        ("*", NODES),
    ],
)
def test_choosing(text, meant):
    assert choose(text, NODES) == meant


@pytest.mark.parametrize("text", ["node4", "x*", "node1,node4", "node[20-30]", "NODE1"])
def test_a_name_that_fits_nothing_is_an_error_even_among_others(text):
    with pytest.raises(ToolError) as caught:
        choose(text, NODES)
    assert caught.value.code is Exit.NO_SUCH_NODE
    assert "node1" in str(caught.value)  # it says what there is


@pytest.mark.parametrize("text", ["", ",", " "])
def test_no_name_at_all(text):
    with pytest.raises(ToolError) as caught:
        choose(text, NODES)
    assert caught.value.code is Exit.USAGE


def test_numbers_sort_as_numbers():
    assert sorted(["node10", "node9", "a", "node1b"], key=natural_key) == ["a", "node1b", "node9", "node10"]


# -- which broker ------------------------------------------------------------------------------------------------------

FLEET = """\
version: 1
mqtt: {url: "mqtts://broker.lan:8883", ca_file: tls/ca.crt, username: "{service}", password: {file: "s/{service}"}}
nodes: [{id: one, hardware: {type: esp8266, host: relay}}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("PYPMI_MQTT_PASSWORD", raising=False)
    return tmp_path


def test_without_anything_it_is_a_broker_on_this_machine(folder):
    access = resolve(AccessOptions())
    assert (access.mqtt.host, access.mqtt.port, access.loaded) == ("127.0.0.1", 1883, None)


def test_a_fleet_in_this_folder_as_the_operator(folder):
    (folder / "fleet.yaml").write_text(FLEET)
    access = resolve(AccessOptions())
    assert access.mqtt.username == "operator"
    assert access.mqtt.password == SecretSource(file=Path("s/operator"))
    assert access.base == folder
    assert access.loaded is not None


def test_options_override_the_file(folder):
    (folder / "fleet.yaml").write_text(FLEET)
    (folder / "mine").write_text("secret\n")
    access = resolve(
        AccessOptions(mqtt="mqtts://other:1", user="me", password_file=Path("mine"), prefix="lab", protocol="3.1.1")
    )
    assert (access.mqtt.host, access.mqtt.username, access.mqtt.prefix) == ("other", "me", "lab")
    assert access.mqtt.password is not None
    assert access.mqtt.password.read() == "secret"
    assert access.mqtt.protocol == "3.1.1"


def test_a_plain_url_leaves_certificates_behind(folder):
    (folder / "fleet.yaml").write_text(FLEET)
    access = resolve(AccessOptions(config=Path("fleet.yaml"), mqtt="mqtt://127.0.0.1:1883"))
    assert access.mqtt.ca_file is None


def test_a_password_from_the_environment_belongs_to_the_operator(folder, monkeypatch):
    monkeypatch.setenv("PYPMI_MQTT_PASSWORD", "secret")
    access = resolve(AccessOptions(mqtt="mqtt://broker"))
    assert access.mqtt.username == "operator"
    assert access.mqtt.password is not None
    assert access.mqtt.password.read() == "secret"


def test_the_users_own_file(folder):
    own = folder / "xdg/pypmi"
    own.mkdir(parents=True)
    (own / "config.yaml").write_text("mqtt: {url: 'mqtt://desk.lan'}\n")
    access = resolve(AccessOptions())
    assert access.mqtt.host == "desk.lan"
    (folder / "else").mkdir()
    (folder / "else/fleet.yaml").write_text(FLEET)
    (own / "config.yaml").write_text(f"config: {folder}/else/fleet.yaml\n")
    assert resolve(AccessOptions()).base == folder / "else"


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (AccessOptions(mqtt="broker.lan"), Exit.USAGE, "mqtt://"),
        (AccessOptions(mqtt="mqtt://x", protocol="4"), Exit.USAGE, "protocol"),
        (AccessOptions(config=Path("nowhere.yaml")), Exit.NO_BROKER, "nowhere.yaml"),
    ],
)
def test_what_makes_no_sense_is_said(folder, options, code, text):
    with pytest.raises(ToolError) as caught:
        resolve(options)
    assert caught.value.code is code
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["colour: red\n", "mqtt: {url: x}\n", "[", "mqtt: {url: 'mqtt://a', password: x}\n"])
def test_mistakes_in_the_users_own_file_are_said(folder, text):
    own = folder / "xdg/pypmi"
    own.mkdir(parents=True)
    (own / "config.yaml").write_text(text)
    with pytest.raises(ToolError, match=r"config\.yaml"):
        resolve(AccessOptions())


def test_a_fleet_with_mistakes_names_them(folder):
    (folder / "fleet.yaml").write_text("nodes: [{id: A}]\n")
    with pytest.raises(ToolError, match="pypmi check") as caught:
        resolve(AccessOptions())
    assert caught.value.code is Exit.NO_BROKER


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([b"ls\r"], [b"ls\r"]),
        ([b"~."], [Escape.LEAVE]),
        ([b"\r~."], [b"\r", Escape.LEAVE]),
        ([b"\r", b"~", b"."], [b"\r", Escape.LEAVE]),
        ([b"a~."], [b"a~."]),
        ([b"~b~?"], [Escape.BREAK, Escape.HELP]),
        ([b"~~."], [b"~."]),
        ([b"~x~."], [b"~x~."]),
        ([b"~\r~."], [b"~\r", Escape.LEAVE]),
        ([b"\xc3\xa9\n~B"], [b"\xc3\xa9\n", Escape.BREAK]),
    ],
)
def test_escapes(typed, said):
    keys = EscapeFilter(b"~")
    found: list[bytes | Escape] = [item for octets in typed for item in keys.feed(octets)]
    assert found == said


def test_without_an_escape_key_all_is_typed():
    assert list(EscapeFilter(None).feed(b"\r~.")) == [b"\r~."]


# -- where the gateway is ----------------------------------------------------------------------------------------------


def test_where_the_doctor_looks_for_the_gateway():
    def places(listen: str, *hosts: str, address: str | None = None) -> list[tuple[tuple[str, ...], int]]:
        fleet, warnings = parse_fleet(f"mqtt: {{url: 'mqtt://broker'}}\ngateway: {{listen: ['{listen}']}}\n")
        services = [
            ServiceInfo(kind=ServiceKind.GATEWAY, version="1", host=host, started=utc_now(), epoch="e")
            for host in hosts
        ]
        found = gateway_places(GatewayOptions(address), LoadedFleet(fleet, Path(), tuple(warnings)), services)
        return [(place.hosts, place.port) for place in found]

    assert places("10.0.0.5:623") == [(("10.0.0.5",), 623)]
    assert places("[::]:623", socket.gethostname()) == [(("127.0.0.1",), 623)]
    assert places("0.0.0.0:6230", "3f2a") == [(("3f2a", "127.0.0.1", "broker"), 6230)]
    assert places("[::]:623") == [(("127.0.0.1", "broker"), 623)]
    assert places("[::]:623", address="gw.lan") == [(("gw.lan",), 623)]
    assert places("[::]:623", address="gw.lan:6230") == [(("gw.lan",), 6230)]
    assert places("[::]:623", address="[fd00::1]:6230") == [(("fd00::1",), 6230)]
    assert places("[::]:623", address="fd00::1") == [(("fd00::1",), 623)]


# -- small things ------------------------------------------------------------------------------------------------------


def test_every_exit_code_has_a_meaning():
    assert set(MEANINGS) == set(Exit)


def test_one_exit_code_for_many():
    assert worst([]) is Exit.OK
    assert worst([Exit.OK, Exit.UNKNOWN, Exit.UNKNOWN]) is Exit.UNKNOWN
    assert worst([Exit.UNAVAILABLE, Exit.UNKNOWN]) is Exit.FAILED


def test_spans_are_short():
    assert [span(seconds) for seconds in (-1, 5, 119, 600, 8000, 900_000)] == [
        "0 s", "5 s", "119 s", "10 min", "2 h", "10 d",
    ]  # fmt: skip
    now = utc_now()
    assert age(now - timedelta(seconds=3), now) == "3 s"
    assert age(None) == "-"


def test_the_worst_limit_counts():
    limits = Thresholds(lower_critical=1, upper_non_critical=60, upper_critical=70, upper_non_recoverable=80)
    sensor = SensorInfo(key="t", name="T", thresholds=limits)
    assert [status_of(sensor, value) for value in (None, 20, 0.5, 61, 75, 90)] == ["-", "ok", "cr", "nc", "cr", "nr"]
