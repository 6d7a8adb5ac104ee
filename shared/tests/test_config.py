"""fleet.yaml: what it means, and a message of its own for each mistake."""

import json
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypmi.config.document import ConfigError
from pypmi.config.load import json_schema, load_fleet, parse_fleet
from pypmi.config.secrets import SecretError, SecretSource

GOOD = """\
version: 1
mqtt:
  url: mqtts://broker.lan
  username: "{service}"
  password: {file: "secrets/mqtt-{service}"}
users:
  - {name: admin, password: {env: ADMIN_PASSWORD}}
  - {name: guest, password: {file: guest}, privilege: user, nodes: ["node*"]}
defaults:
  power: {on_press: 0.5, off_press: 6}
  hardware: {type: esp8266, poll_interval: 2}
  console: {type: esp8266, baud: 9600}
nodes:
  - id: node[01-03]
    address: "{n}"
    listen: "127.0.0.1:{n+7000}"
    hardware: {host: "relay-{n}.lan"}
  - id: pi
    address: 0x40
    channel: 1
    power: {on_press: 1}
    hardware: {type: gpio, power_button: {line: 17}, status: {line: GPIO27}}
    console: {type: serial, path: /dev/serial/by-id/usb-x}
"""


def test_defaults_and_patterns_unfold():
    fleet, warnings = parse_fleet(GOOD)
    assert warnings == []
    assert [node.id for node in fleet.nodes] == ["node01", "node02", "node03", "pi"]
    second, pi = fleet.nodes[1], fleet.nodes[3]
    assert (second.address, second.listen, second.power.on_press, second.power.off_press) == (
        2,
        "127.0.0.1:7002",
        0.5,
        6,
    )
    assert second.hardware.type == "esp8266"
    assert (second.hardware.host, second.hardware.poll_interval) == ("relay-02.lan", 2)
    assert second.agent_name == "esp8266-agent"
    # the console's defaults are for another type: none of them reach the Pi's
    assert pi.console is not None
    assert (pi.address, pi.power.on_press, pi.power.off_press, pi.console.baud) == (0x40, 1, 6, 115_200)
    assert [node.id for node in fleet.nodes_of_agent("rpi-gpio-agent")] == ["pi"]
    assert len(fleet.consoles_of_relay("sol-relay")) == 4
    broker = fleet.broker_for("esp8266-agent")
    assert broker.username == "esp8266-agent"
    assert str(broker.password and broker.password.file) == "secrets/mqtt-esp8266-agent"
    assert (broker.host, broker.port, broker.tls) == ("broker.lan", 8883, True)


NODE = "  - id: n1\n    hardware: {type: esp8266, host: h}\n"
GPIO = "nodes:\n  - id: {id}\n    hardware: {{type: gpio, power_button: {{line: {line}}}}}\n"

MISTAKES = {
    "empty file": ("", "the file is empty"),
    "not yaml": ("nodes: [", "not valid YAML"),
    "tab": ("nodes:\n\t- id: x\n", "not valid YAML"),
    "not a mapping": ("- a\n", "must be a mapping"),
    "unknown version": ("version: 2\n", "line 1: version: can't be 2; write 1"),
    "misspelt top field": ("node:\n  - x\n", "line 1: node: is no field here; did you mean nodes?"),
    "given twice": ("fleet: a\nfleet: b\n", "line 2: fleet: is given twice"),
    "nodes no list": ("nodes: {a: 1}\n", "nodes: takes a list"),
    "node no mapping": ("nodes:\n  - n1\n", "line 2: nodes[0]: takes a mapping of fields, not 'n1'"),
    "id missing": ("nodes:\n  - hardware: {type: esp8266, host: h}\n", "nodes[0].id: is missing; write id: node1"),
    "id wrong": (
        "nodes:\n  - id: Node_1\n    hardware: {type: esp8266, host: h}\n",
        "line 2: nodes[0].id: 'Node_1' does not fit",
    ),
    "id twice": ("nodes:\n" + NODE + NODE, "n1 is there twice"),
    "pattern down": ("nodes:\n  - id: n[9-1]\n    hardware: {type: esp8266, host: h}\n", "must go up"),
    "pattern wrong": (
        "nodes:\n  - id: n[a-b]\n    hardware: {type: esp8266, host: h}\n",
        "write one range as in node[1-40]",
    ),
    "hardware missing": ("nodes:\n  - id: n1\n", "nodes[0].hardware: is missing; write hardware: {type: esp8266"),
    "type missing": ("nodes:\n  - id: n1\n    hardware: {host: h}\n", "nodes[0].hardware: needs a type"),
    "type unknown": ("nodes:\n  - id: n1\n    hardware: {type: esp8267, host: h}\n", "did you mean esp8266?"),
    "host missing": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266}\n",
        "nodes[0].hardware.host: is missing; write host: 192.0.2.11",
    ),
    "host a url": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: 'http://h/'}\n",
        "write a host name or address without scheme and port",
    ),
    "port too high": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, port: 70000}\n",
        "must be at most 65535, not 70000",
    ),
    "port text": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, port: telnet}\n",
        "takes a whole number, not 'telnet'",
    ),
    "field of another type": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, chip: x}\n",
        "nodes[0].hardware.chip: is no field here",
    ),
    "pulse too short": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, relay: {pin: 0, pulse_ms: 20}}\n",
        "pulse_ms: must be at least 100, not 20",
    ),
    "active level": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, relay: {pin: 0, active: lo}}\n",
        "can't be 'lo'; write 'low' or 'high'",
    ),
    "firmware": (
        "nodes:\n  - id: n1\n    hardware: {type: esp8266, host: h, firmware: '2020'}\n",
        "write 'auto', '2019', '2021' or '2024'",
    ),
    "address is the gateway": (
        "nodes:\n" + NODE + "    address: 0x20\n",
        "line 4: nodes[0].address: 32 (0x20) is the gateway itself",
    ),
    "address too high": ("nodes:\n" + NODE + "    address: 256\n", "address: must be at most 255, not 256"),
    "address twice": (
        "nodes:\n" + NODE + "    address: 1\n" + NODE.replace("n1", "n2") + "    address: 1\n",
        "1 on channel 0 is n1's already",
    ),
    "channel": ("nodes:\n" + NODE + "    channel: 12\n", "channel: must be at most 11"),
    "listen": ("nodes:\n" + NODE + "    listen: 6231\n", "listen: takes text, not 6231; put quotes around it"),
    "listen form": ("nodes:\n" + NODE + "    listen: '::1:6231'\n", "an IPv6 address in brackets"),
    "listen twice": (
        "gateway: {listen: ['0.0.0.0:6230']}\nnodes:\n" + NODE + "    listen: 0.0.0.0:6230\n",
        "0.0.0.0:6230 is the gateway's already",
    ),
    "press negative": ("nodes:\n" + NODE + "    power: {on_press: -1}\n", "on_press: must be more than 0, not -1"),
    "press not a number": ("nodes:\n" + NODE + "    power: {off_press: 10s}\n", "off_press: takes a number, not '10s'"),
    "duration misspelt": ("nodes:\n" + NODE + "    power: {onpress: 1}\n", "did you mean on_press?"),
    "default mistake": (
        "defaults:\n  power: {on_press: x}\nnodes:\n" + NODE,
        "line 2: defaults.power.on_press: takes a number",
    ),
    "default id": ("defaults: {id: x}\nnodes:\n" + NODE, "defaults.id: can't be the same for all nodes"),
    "mac": (
        "nodes:\n" + NODE + "    wake: {mac: 00-11-22}\n",
        "mac: '00-11-22' does not fit; write it as 52:54:00:12:34:56",
    ),
    "wol without wake": (
        "nodes:\n  - id: n1\n    hardware: {type: wol}\n",
        "hardware type wol needs a wake part with the mac",
    ),
    "console serial without path": ("nodes:\n" + NODE + "    console: {type: serial}\n", "type serial needs path"),
    "console tcp without port": (
        "nodes:\n" + NODE + "    console: {type: tcp, host: h}\n",
        "type tcp needs host and port",
    ),
    "gpio without button": ("nodes:\n  - id: n1\n    hardware: {type: gpio}\n", "power_button: is missing"),
    "bmc password in the file": (
        "nodes:\n  - id: n1\n    hardware: {type: bmc, host: h, user: u, password: hunter2}\n",
        "password: takes a mapping of fields, not what stands there",
    ),
    "password both": (
        "users:\n  - {name: a, password: {file: a, env: B}}\n",
        "give exactly one of file and env",
    ),
    "user name too long": (
        "users:\n  - {name: aaaaaaaaaaaaaaaaa, password: {env: A}}\n",
        "must have at most 16 characters",
    ),
    "user twice": (
        "users:\n  - {name: a, password: {env: A}}\n  - {name: a, password: {env: A}}\n",
        "a is there twice",
    ),
    "privilege": (
        "users:\n  - {name: a, password: {env: A}, privilege: root}\n",
        "can't be 'root'; write 'callback', 'user'",
    ),
    "mqtt scheme": ("mqtt: {url: 'tcp://h'}\n", "starts with mqtt://, mqtts://, ws:// or wss://"),
    "mqtt account in url": ("mqtt: {url: 'mqtt://u:secret@h'}\n", "put it into username and password instead"),
    "mqtt protocol": ("mqtt: {protocol: 3}\n", "write '5' or '3.1.1'"),
    "mqtt prefix": ("mqtt: {prefix: /lab/}\n", "use letters, digits, - and _, with / between"),
    "mqtt password alone": ("mqtt: {password: {env: A}}\n", "password without username"),
    "certificate without tls": ("mqtt: {ca_file: ca.pem}\n", "certificates are for mqtts:// and wss:// only"),
    "key without certificate": ("mqtt: {url: 'mqtts://h', key_file: k}\n", "cert_file and key_file go together"),
    "suite": ("gateway: {cipher_suites: [0]}\n", "can't be 0; write 3 or 17"),
    "no suites": ("gateway: {cipher_suites: []}\n", "cipher_suites: must not be empty"),
    "gpio line twice": (
        GPIO.format(id="n1", line=17) + GPIO.format(id="n2", line="GPIO17").removeprefix("nodes:\n"),
        "nodes[1].hardware.power_button.line: line GPIO17 of pinctrl-* is power_button of n1 already",
    ),
    "gpio line twice in a node": (
        GPIO.format(id="n1", line=17).replace("}}", "}, status: {line: 17}}"),
        "nodes[0].hardware.status.line: line 17 of pinctrl-* is power_button of n1 already",
    ),
    "true false": ("homeassistant: {enabled: maybe}\n", "takes true or false, not 'maybe'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_a_message_of_its_own(name):
    text, expected = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text)
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_messages_differ():
    texts = set()
    for text, _ in MISTAKES.values():
        with pytest.raises(ConfigError) as caught:
            parse_fleet(text)
        texts.add(str(caught.value))
    assert len(texts) >= len(MISTAKES) - 1  # two ways to break YAML may read alike


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("users:\n  - {name: a, password: {env: A}, nodes: [rack*]}\nnodes:\n" + NODE, "rack* fits no node"),
        ("nodes:\n" + NODE, "nobody can log in"),
        ("nodes:\n" + NODE + "    address: 0x81\n", "129 (0x81)"),
        ("nodes:\n" + NODE + NODE.replace("n1", "n2"), "h:24 is the board of n1 already"),
    ],
)
def test_what_works_but_is_odd_is_a_warning(text, expected):
    _, warnings = parse_fleet(text)
    assert any(expected in str(warning) for warning in warnings)


def test_one_line_on_two_hosts_or_chips_is_two_lines():
    two = GPIO.format(id="n2", line=17).removeprefix("nodes:\n")
    parse_fleet(GPIO.format(id="n1", line=17) + two + "    agent: other-pi\n")
    parse_fleet(GPIO.format(id="n1", line=17) + two.replace("type: gpio", "type: gpio, chip: other"))


def test_a_mistake_in_a_pattern_shows_once():
    text = "nodes:\n  - id: n[1-100]\n    hardware: {type: esp8266, host: h, port: x}\n"
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text)
    assert len(caught.value.problems) == 1


def test_merge_keys_override_and_aliases_within_aliases_are_bounded():
    fleet, _ = parse_fleet(
        textwrap.dedent("""\
            nodes:
              - id: a
                hardware: &h {type: esp8266, host: one}
              - id: b
                hardware: {<<: *h, host: two}
            """)
    )
    assert [node.hardware.host for node in fleet.nodes if node.hardware.type == "esp8266"] == ["one", "two"]
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for this, last in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{this}: &{this} [{', '.join([f'*{last}'] * 10)}]\n"
    with pytest.raises(ConfigError, match="unfolds to too many values"):
        parse_fleet(bomb)


def test_files_that_cannot_be_read_say_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_fleet(tmp_path / "no.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("fleet: a\n# Büro\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 2: this is not UTF-8"):
        load_fleet(latin)


@pytest.mark.parametrize("name", ["int", "str", "a[b]", "function-x"])
def test_a_field_may_have_any_wrong_name(name):
    with pytest.raises(ConfigError, match="is no field"):
        parse_fleet(f"version: 1\n'{name}': 1\n")


def test_a_password_without_the_space_before_it_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        parse_fleet(GOOD.replace("{name: admin, password: {env: ADMIN_PASSWORD}}", "{name: admin, password:hunter2}"))
    assert "users[0].password…: is no field" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="users: takes a list") as caught:
        parse_fleet("version: 1\nusers: x[{name:a, password:hunter2}]\n")
    assert "hunter2" not in str(caught.value)


def test_secrets_come_from_files_and_the_environment(tmp_path, monkeypatch):
    (tmp_path / "s").write_text("pass word \n")
    assert SecretSource(file=Path("s")).read(tmp_path) == "pass word "
    monkeypatch.setenv("SECRET_X", "v")
    assert SecretSource(env="SECRET_X").read() == "v"
    (tmp_path / "empty").write_text("\n")
    for source, text in [
        (SecretSource(file=Path("none")), "cannot read secret file"),
        (SecretSource(file=Path("empty")), "is empty"),
        (SecretSource(env="SECRET_NOT_SET"), "is not set"),
    ]:
        with pytest.raises(SecretError, match=text):
            source.read(tmp_path)


def test_the_schema_describes_every_field():
    schema = json.loads(json_schema())
    for name, definition in [("Fleet", schema), *schema["$defs"].items()]:
        for field, value in definition.get("properties", {}).items():
            if definition.get("additionalProperties") is False:
                assert (
                    "type" in value
                    or "$ref" in value
                    or "anyOf" in value
                    or "const" in value
                    or "oneOf" in value
                    or ("enum" in value or "default" in value)
                ), (name, field)


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text):
    try:
        fleet, _ = parse_fleet(text)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = list(fleet.nodes) or [fleet]
    assert problems
