"""`pypmi export`: what is written for whom. The real programs use it in tests/test_export.py and tests/e2e."""

import json
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from pypmi_cli.__main__ import app
from typer.testing import CliRunner, Result

FLEET: dict[str, Any] = {
    "version": 1,
    "fleet": "lab",
    "gateway": {"listen": ["[::]:6230"], "sol": {"conflict": "share"}},
    "users": [
        {"name": "admin", "password": {"file": "admin-password"}},
        {"name": "ironic", "password": {"file": "ironic-password"}, "privilege": "operator"},
        {"name": "metrics", "password": {"env": "METRICS_PASSWORD"}, "privilege": "user"},
        {"name": "few", "password": {"file": "ironic-password"}, "nodes": ["n1"]},
    ],
    "nodes": [
        {
            "id": "n1", "name": "First", "address": 1, "listen": "192.0.2.51:623", "mac": "52:54:00:00:00:01",
            "area": "Rack 1", "hardware": {"type": "esp8266", "host": "192.0.2.11"}, "console": {"type": "esp8266"},
        },
        {"id": "n2", "address": 7, "channel": 3, "hardware": {"type": "esp8266", "host": "192.0.2.12"}},
        {"id": "n3", "listen": "[::]:6233", "hardware": {"type": "esp8266", "host": "192.0.2.13"}},
        {"id": "n4", "hardware": {"type": "esp8266", "host": "192.0.2.14"}},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET, sort_keys=False))
    (tmp_path / "admin-password").write_text("secret of admin\n")
    (tmp_path / "ironic-password").write_text("secret of ironic\n")
    return tmp_path


def export(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["-c", str(folder / "fleet.yaml"), "export", *words])


def nodes_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return {node["name"]: node for node in yaml.safe_load(result.stdout)["nodes"]}


def test_ironic_has_a_name_of_its_own_for_each_bridged_node(folder):
    result = export(folder, "ironic", "--host", "192.0.2.2")
    nodes = nodes_of(result)
    assert nodes["n1"]["driver_info"] == {
        "ipmi_address": "n1.bmc", "ipmi_port": 6230, "ipmi_username": "ironic", "ipmi_password": "PASSWORD",
        "ipmi_priv_level": "OPERATOR", "ipmi_bridging": "single", "ipmi_target_channel": "0",
        "ipmi_target_address": "1",
    }  # fmt: skip
    assert nodes["n1"]["ports"] == [{"address": "52:54:00:00:00:01", "pxe_enabled": True}]
    assert nodes["n2"]["driver_info"]["ipmi_target_channel"] == "3"
    assert nodes["n2"]["driver_info"]["ipmi_target_address"] == "7"
    assert (nodes["n3"]["driver_info"]["ipmi_address"], nodes["n3"]["driver_info"]["ipmi_port"]) == ("192.0.2.2", 6233)
    assert "ipmi_bridging" not in nodes["n3"]["driver_info"]
    assert "n4" not in nodes
    assert "n4 is left out" in result.stderr
    assert "# 192.0.2.2  n1.bmc n2.bmc\n" in result.stdout


def test_passwords_are_written_only_when_asked_for(folder):
    for words in (("ironic",), ("maas",), ("ipmi-exporter",)):
        plain = export(folder, *words, "--host", "gw", "--user", "admin")
        assert "secret of" not in plain.output
        assert "--secrets writes it" in plain.stderr
        with_secret = export(folder, *words, "--host", "gw", "--user", "admin", "--secrets")
        assert "secret of admin" in with_secret.stdout
        assert "secret of" not in with_secret.stderr


def test_a_file_is_for_its_owner_alone(folder):
    file = folder / "nodes.yaml"
    file.write_text("old")
    file.chmod(0o644)
    assert export(folder, "ironic", "--host", "gw", "--secrets", "-o", str(file)).stdout == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret of ironic" in file.read_text()
    lost = export(folder, "ironic", "--host", "gw", "-o", str(folder / "no" / "folder"))
    assert lost.exit_code == 1
    assert "cannot write" in lost.stderr


def test_names_can_be_chosen_and_shared_ones_are_warned_of(folder):
    nodes = nodes_of(export(folder, "ironic", "--host", "gw", "--name", "{id}-a{address}.{host}"))
    assert nodes["n2"]["driver_info"]["ipmi_address"] == "n2-a7.gw"
    shared = export(folder, "ironic", "--host", "gw.lan", "--name", "{host}")
    assert nodes_of(shared)["n2"]["driver_info"]["ipmi_address"] == "gw.lan"
    assert "share an ipmi_address" in shared.stderr
    assert "must resolve" not in shared.stdout
    assert export(folder, "ironic", "--host", "gw", "--name", "{nobody}").exit_code == 2


def test_the_bmc_key_is_hexadecimal_for_ironic_and_named_for_others(folder):
    fleet = {**FLEET, "gateway": {**FLEET["gateway"], "kg": {"file": "kg"}}}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    (folder / "kg").write_text("0x0102\n")
    nodes = nodes_of(export(folder, "ironic", "--host", "gw", "--secrets"))
    assert nodes["n1"]["driver_info"]["ipmi_hex_kg_key"] == "0102" + 36 * "0"
    assert "gateway.kg" in export(folder, "conman", "--host", "gw", "--user", "ironic").stderr


def test_the_gateway_must_have_a_name(folder):
    nameless = export(folder, "ironic")
    assert nameless.exit_code == 2
    assert "--host" in nameless.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("ironic", "--user", "nobody"), "no IPMI account 'nobody'"),
        (("ironic", "--user", "metrics"), "operator is needed"),
        (("conman", "--user", "metrics"), "operator is needed"),
        (("ipmi-exporter", "--secrets"), "METRICS_PASSWORD"),
    ],
)
def test_accounts_that_do_not_do(folder, monkeypatch, words, text):
    monkeypatch.delenv("METRICS_PASSWORD", raising=False)
    result = export(folder, *words, "--host", "gw")
    assert result.exit_code == 2
    assert text in result.stderr


def test_nodes_that_the_account_may_not_reach_are_left_out(folder):
    result = export(folder, "ironic", "--host", "gw", "--user", "few")
    assert list(nodes_of(result)) == ["n1"]
    assert "n2 is left out: few may not reach it" in result.stderr


def test_maas_takes_port_623_alone(folder):
    result = export(folder, "maas", "--host", "gw", "--secrets")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("maas ")]
    words = shlex.split(line)
    assert words[:4] == ["maas", "$PROFILE", "machines", "create"]
    fields = dict(word.split("=", 1) for word in words[4:])
    assert fields["mac_addresses"] == "52:54:00:00:00:01"
    assert json.loads(fields["power_parameters"]) == {
        "power_driver": "LAN_2_0", "power_address": "192.0.2.51", "power_user": "ironic",
        "power_pass": "secret of ironic", "cipher_suite_id": "17", "privilege_level": "OPERATOR",
    }  # fmt: skip
    assert "n3 is left out: MAAS needs" in result.stderr


def test_home_assistant_gets_a_card_for_each_node(folder):
    view = yaml.safe_load(export(folder, "homeassistant").stdout)["views"][0]
    assert [card["title"] for card in view["cards"]] == ["First", "n2", "n3", "n4"]
    assert "switch.n1" in view["cards"][0]["entities"]


def test_ipmi_exporter_gets_modules_and_targets(folder):
    module = yaml.safe_load(export(folder, "ipmi-exporter", "--host", "gw").stdout)["modules"]["default"]
    assert (module["user"], module["privilege"], module["driver"]) == ("metrics", "user", "LAN_2_0")
    targets = json.loads(export(folder, "ipmi-exporter", "--targets", "--host", "gw").stdout)
    assert targets == [
        {"targets": ["192.0.2.51"], "labels": {"node": "n1", "area": "Rack 1"}},
        {"targets": ["gw:6233"], "labels": {"node": "n3"}},
    ]


def test_conman_names_the_file_of_the_password(folder):
    result = export(folder, "conman", "--host", "gw")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("console ")]
    command = f"-H gw -p 6230 -U ironic -f {folder}/ironic-password -L OPERATOR -b 0 -t 1 sol activate"
    assert line == f'console name="n1" dev="/usr/bin/ipmitool -I lanplus {command}"'
    assert "secret" not in result.output
    other = export(folder, "conman", "--host", "gw", "--password-file", "/etc/conman.password")
    assert "-f /etc/conman.password" in other.stdout
    assert export(folder, "conman", "--host", "gw", "--password-file", "/etc/a b").exit_code == 2


def test_a_fleet_that_is_wrong_is_explained(folder):
    (folder / "fleet.yaml").write_text("nodes: 5\n")
    result = export(folder, "ironic")
    assert result.exit_code == 3
    assert "fleet.yaml: line 1" in result.stderr
