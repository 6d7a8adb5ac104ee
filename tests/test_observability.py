"""Metrics, dashboard, alert rules and the page about them name the same things as the running services."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from stack import free_tcp_port, free_udp_base, run, until

ROOT = Path(__file__).parent.parent
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
PAGE = ROOT / "docs/metrics.md"

FLEET = """\
version: 1
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}"}}
gateway: {{listen: ["127.0.0.1:{udp}"]}}
users: [{{name: admin, password: {{file: password}}}}]
services:
  ipmi-gateway: {{health: "127.0.0.1:{health[0]}"}}
  esp8266-agent: {{health: "127.0.0.1:{health[1]}"}}
  sol-relay: {{health: "127.0.0.1:{health[2]}"}}
nodes:
  - id: node1
    address: 1
    hardware: {{type: esp8266, host: 127.0.0.1, port: {board}}}
    console: {{type: esp8266, port: {bridge}}}
"""


def scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Every metric that the services of a fleet at work expose, with the names of its labels."""
    folder = tmp_path_factory.mktemp("metrics")
    mqtt, udp, health = free_tcp_port(), free_udp_base(1), [free_tcp_port() for _ in range(3)]
    processes = []

    def start(*command: str) -> None:
        with (folder / "out.log").open("ab") as out:
            processes.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=folder))

    try:
        start("mosquitto", "-p", str(mqtt))
        ready = folder / "boards.json"
        start(sys.executable, "-m", "pypmi_simulator", "--boards", "1", "--no-udp", "--ready-file", str(ready))
        until(ready.exists, 30, "simulator ready")
        board = json.loads(ready.read_text())["boards"][0]
        (folder / "password").write_text("a long enough one\n")
        config = folder / "fleet.yaml"
        config.write_text(
            FLEET.format(mqtt=mqtt, udp=udp, health=health, board=board["port"], bridge=board["bridge_port"])
        )
        for name in ("esp8266_agent", "sol_relay", "ipmi_gateway"):
            start(sys.executable, "-m", name, "--config", str(config), "--state-dir", str(folder / name))
        tool = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(udp), "-U", "admin"]
        until(lambda: "pypmi_nodes_online 1.0" in scrape(health[0]), 40, "node online")
        assert run(*tool[:-1], "nobody", "-P", "wrong", "power", "status").code
        assert run(*tool, "-P", "a long enough one", "-t", "1", "power", "on").code == 0
        until(lambda: 'pypmi_commands_total{action="on"' in scrape(health[1]), 40, "command counted")
        until(lambda: "pypmi_console_online" in scrape(health[2]), 40, "console counted")
        found: dict[str, set[str]] = {}
        for text in map(scrape, health):
            for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
                found.setdefault(name, set())
            for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
                found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        yield found
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bpypmi_\w+", expression))


def labels_in(expression: str) -> set[str]:
    """Labels that a query groups or selects by, without those that Prometheus itself adds."""
    grouped = re.findall(r"(?:by|on|group_left) ?\(([^)]*)\)", expression)
    selected = re.findall(r"\{([^}]*)\}", expression)
    words = {word.strip() for group in grouped for word in group.split(",")}
    words |= {word for group in selected for word in re.findall(r"(\w+) ?[=!]", group)}
    return words - {"", "instance", "job", "le"}


def dashboard_queries() -> list[tuple[str, str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        (target["expr"], panel["title"] + " " + target["legendFormat"])
        for panel in panels
        for target in panel.get("targets", ())
    ]


def alert_rules() -> list[dict[str, str]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_dashboard_names_metrics_that_there_are(exposed: dict[str, set[str]]) -> None:
    for query, legend in dashboard_queries():
        names = names_in(query)
        assert names <= set(exposed), f"{legend}: {names - set(exposed)}"
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend)) - {"instance"}
        known = set().union(*(exposed[name] for name in names))
        assert shown | labels_in(query) <= known, f"{legend}: {shown | labels_in(query)} not in {known}"


def test_dashboard_shows_every_metric(exposed: dict[str, set[str]]) -> None:
    shown = set().union(*(names_in(query) for query, _ in dashboard_queries()))
    ours = {name for name in exposed if name.startswith("pypmi_")}
    missing = {name for name in ours if not re.search(r"_created$|_(sum|count)$", name)} - shown
    assert not {name for name in missing if not any(other.startswith(name) for other in shown)}


def test_dashboard_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells


def test_alerts_name_metrics_that_there_are(exposed: dict[str, set[str]]) -> None:
    for rule in alert_rules():
        names = names_in(rule["expr"])
        assert names <= set(exposed), rule["alert"]
        known = set().union(set(), *(exposed[name] for name in names))
        assert labels_in(rule["expr"]) <= known, rule["alert"]
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) - {"instance"}
        assert used <= known, rule["alert"]


def test_page_lists_exactly_the_metrics_that_there_are(exposed: dict[str, set[str]]) -> None:
    listed = set(re.findall(r"^\| `(pypmi_\w+)` \|", PAGE.read_text(), re.MULTILINE))
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in exposed
        if name.startswith("pypmi_") and not name.endswith("_created")
    }
    assert listed == families
    for name, labels in re.findall(r"^\| `(pypmi_\w+)` \| \w+ \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE):
        for label in re.findall(r"`(\w+)`", labels):
            assert label in exposed[name] | exposed.get(f"{name}_bucket", set()), f"{name} has no label {label}"


def test_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:  # Debian's package prometheus; the other tests hold without it
        assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for rule in alert_rules())
        return
    done = run(promtool, "check", "rules", str(ALERTS))
    assert done.code == 0, done.text
