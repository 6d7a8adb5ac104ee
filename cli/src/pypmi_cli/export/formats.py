"""The forms themselves: each function returns the text of a file for one program."""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from pypmi.config.fleet import NodeSettings
from pypmi.contract import Topics
from pypmi.homeassistant.entities import object_name

from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.export.plan import IPMI_PORT, Place, Plan

_HEAD = "# Written by `pypmi export {kind}` from fleet.yaml; write it anew rather than change it.\n"
_KG_OCTETS = 20


def ironic(plan: Plan, name: str) -> str:
    """Nodes for `baremetal create` (Ironic, Bifrost).

    Args:
        plan: the fleet.
        name: host name of each node, with `{id}`, `{address}` and `{host}`. Ironic spaces its commands per name, so
            that nodes which share one wait for each other.
    """
    account = plan.account("operator")
    password = plan.password(account)
    entries = []
    names = []
    found = plan.nodes(account, lambda node: plan.bridged_place(node) or plan.own_place(node), "no address, no listen")
    for node, place in found:
        address = place.host
        if place.bridge is not None:
            address = name.format(id=node.id, address=place.bridge[1], host=place.host)
            names.append(address)
        info: dict[str, Any] = {
            "ipmi_address": address,
            "ipmi_port": place.port,
            "ipmi_username": account.name,
            "ipmi_password": password,
        }
        if account.privilege != "administrator":
            info["ipmi_priv_level"] = account.privilege.upper()
        if plan.fleet.gateway.kg is not None:
            info["ipmi_hex_kg_key"] = _hex_key(plan)
        if place.bridge is not None:
            channel, target = place.bridge
            info |= {
                "ipmi_bridging": "single",
                "ipmi_target_channel": str(channel),
                "ipmi_target_address": str(target),
            }
        entry: dict[str, Any] = {"name": node.id, "driver": "ipmi", "driver_info": info}
        if node.display_name != node.id:
            entry["description"] = node.display_name
        if node.boot_mac is not None:
            entry["ports"] = [{"address": node.boot_mac, "pxe_enabled": True}]
        entries.append(entry)
    head = _HEAD.format(kind="ironic") + "#     baremetal create FILE\n"
    if names and len(set(names)) < len(names):
        plan.note("nodes share an ipmi_address: Ironic spaces their commands; use {id} in --name")
    host = plan.gateway()[0] if names else ""
    if set(names) - {host}:
        head += "# Names that must resolve to the gateway's address; for /etc/hosts of Ironic's conductors:\n"
        head += "".join(f"# {host}  {' '.join(names[at : at + 8])}\n" for at in range(0, len(names), 8))
    return head + _yaml({"nodes": entries})


def _hex_key(plan: Plan) -> str:
    kg = plan.fleet.gateway.kg
    if kg is None or not plan.secrets:
        return "KG"
    text = kg.read(plan.loaded.base)
    key = bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    return key.ljust(_KG_OCTETS, b"\0").hex()


def maas(plan: Plan, architecture: str) -> str:
    """Machines for MAAS, as a script of its command line. MAAS takes an address without a port, and can't bridge."""
    account = plan.account("operator")
    password = plan.password(account)
    plan.note_key()

    def place(node: NodeSettings) -> Place | None:
        own = plan.own_place(node)
        return own if own is not None and own.port == IPMI_PORT else None

    lines = [
        "#!/bin/sh",
        _HEAD.format(kind="maas").rstrip(),
        "# PROFILE=admin sh FILE",
        "set -e",
        ": ${PROFILE:=admin}",
    ]
    for node, where in plan.nodes(account, place, f"MAAS needs a listen address of its own on port {IPMI_PORT}"):
        if node.boot_mac is None:
            plan.note(f"{node.id} is left out: MAAS knows machines by their MAC address (mac)")
            continue
        power = {
            "power_driver": "LAN_2_0",
            "power_address": where.host,
            "power_user": account.name,
            "power_pass": password,
            "cipher_suite_id": str(plan.fleet.gateway.cipher_suites[0]),
            "privilege_level": account.privilege.upper() if account.privilege != "administrator" else "ADMIN",
        }
        words = [
            "machines", "create", f"hostname={node.id}", f"architecture={architecture}",
            f"mac_addresses={node.boot_mac}", "power_type=ipmi", f"power_parameters={json.dumps(power)}",
            "commission=false",
        ]  # fmt: skip
        lines.append(f'maas "$PROFILE" {shlex.join(words)}')
    return "\n".join(lines) + "\n"


def home_assistant(plan: Plan) -> str:
    """A dashboard view with a card for each node; the devices themselves Home Assistant finds by MQTT discovery."""
    topics = Topics(plan.fleet.mqtt.prefix)
    cards = []
    for node in plan.fleet.nodes:
        name = object_name(node.id, topics).removeprefix("pypmi_").replace("-", "_")
        entities = [
            f"switch.{name}", f"binary_sensor.{name}_problem", f"select.{name}_next_boot",
            f"sensor.{name}_last_command", f"event.{name}_events",
        ]  # fmt: skip
        cards.append(
            {"type": "entities", "title": node.display_name, "show_header_toggle": False, "entities": entities}
        )
    if not plan.fleet.homeassistant.enabled:
        plan.note("homeassistant.enabled is false: Home Assistant is told of no node")
    view = {"title": "Machines", "path": "pypmi", "icon": "mdi:server", "cards": cards}
    return _HEAD.format(kind="homeassistant") + _yaml({"views": [view]})


def ipmi_exporter(plan: Plan) -> str:
    """The modules of ipmi_exporter (`--config.file`)."""
    account = plan.account("user")
    plan.note_key()
    module = {
        "user": account.name,
        "pass": plan.password(account),
        "driver": "LAN_2_0",
        "privilege": "user",
        "timeout": 10_000,
        "collectors": ["bmc", "ipmi", "chassis", "sel"],
    }
    return _HEAD.format(kind="ipmi-exporter") + _yaml({"modules": {"default": module}})


def ipmi_exporter_targets(plan: Plan) -> str:
    """Its targets, in the form of Prometheus' file_sd_configs."""
    account = plan.account("user")
    groups = [
        {"targets": [place.target], "labels": {"node": node.id, **({"area": node.area} if node.area else {})}}
        for node, place in plan.nodes(account, plan.own_place, "ipmi_exporter can't bridge; give it a listen address")
    ]
    return json.dumps(groups, indent=2, ensure_ascii=False) + "\n"


def conman(plan: Plan, password_file: Path | None, port: int) -> str:
    """conman.conf: a console of each node that has one, by ipmitool.

    Args:
        plan: the fleet.
        password_file: with the account's password, readable by conmand; None: that of fleet.yaml.
        port: TCP port of conmand.
    """
    account = plan.account("operator")
    secret = password_file or plan.password_file(account)
    plan.note_key()
    lines = [
        _HEAD.format(kind="conman").rstrip(), f"server port={port}", "server loopback=on", "server keepalive=on",
        'global log="%N.log"',
    ]  # fmt: skip
    found = plan.nodes(account, lambda node: plan.bridged_place(node) or plan.own_place(node), "no address, no listen")
    for node, place in found:
        if node.console is None:
            plan.note(f"{node.id} is left out: it has no console")
            continue
        words = ["/usr/bin/ipmitool", "-I", "lanplus", "-H", place.host, "-p", str(place.port), "-U", account.name]
        words += ["-f", str(secret)]
        if account.privilege != "administrator":
            words += ["-L", account.privilege.upper()]
        if place.bridge is not None:
            words += ["-b", str(place.bridge[0]), "-t", str(place.bridge[1])]
        words += ["sol", "activate"]
        if any(set(word) & set("\"'\\ \t\n#") for word in words):
            raise ToolError("conman.conf can't hold blanks or quotes in account or file name", Exit.USAGE)
        lines.append(f'console name="{node.id}" dev="{" ".join(words)}"')
    if plan.fleet.gateway.sol.conflict == "takeover":
        plan.note("gateway.sol.conflict is takeover: conman and others would take consoles from each other; set share")
    return "\n".join(lines) + "\n"


def _yaml(data: Any) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    return text
