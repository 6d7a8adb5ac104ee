"""`pypmi` against a whole fleet: real broker, services and tools, simulated boards."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pypmi_cli.__main__ import app
from stack import PYPMI, Demo, Outcome, run, until
from typer.testing import CliRunner


def tool(demo: Demo, *words: str, stdin: str | None = None, timeout: float = 60) -> Outcome:
    return run(*PYPMI, "--config", str(demo.folder / "fleet.yaml"), *words, stdin=stdin, timeout=timeout)


def ask(demo: Demo, *words: str) -> Any:
    """What a command says as JSON; it must succeed."""
    done = tool(demo, *words, "--json")
    assert done.code == 0, done.text
    return json.loads(done.out)


def idle(demo: Demo) -> None:
    until(lambda: all(node["action"] is None for node in ask(demo, "nodes")), 60, "all nodes idle")


def all_off(demo: Demo) -> None:
    idle(demo)
    done = tool(demo, "power", "*", "off", "--yes", "--wait")
    assert done.code == 0, done.text


# -- looking -----------------------------------------------------------------------------------------------------------


def test_nodes_shows_every_node_with_its_address(demo: Demo):
    done = tool(demo, "nodes")
    assert done.code == 0, done.text
    head, *rows = done.out.splitlines()
    assert head.split() == ["NODE", "POWER", "SINCE", "AVAILABLE", "AGENT", "LAST", "COMMAND", "ADDRESS"]
    assert [row.split()[0] for row in rows] == ["node1", "node2", "node3", "node4"]
    assert all("esp8266-agent" in row for row in rows)
    assert "-t 3" in rows[2]


def test_nodes_as_json(demo: Demo):
    (node,) = ask(demo, "nodes", "node2")
    assert node["id"] == "node2"
    assert node["available"] is True
    assert (node["agent"], node["driver"], node["channel"], node["address"]) == ("esp8266-agent", "esp8266", 0, 2)
    assert "cycle" in node["capabilities"]


def test_without_the_fleet_file_a_broker_is_enough(demo: Demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*PYPMI, "--mqtt", f"mqtt://127.0.0.1:{demo.mqtt_port}", "nodes", "--json")
    assert [node["id"] for node in json.loads(done.out)] == ["node1", "node2", "node3", "node4"]


def test_sensors(demo: Demo):
    signals = until(
        lambda: [row for row in ask(demo, "sensors") if row["sensor"] == "signal" and row["value"] is not None], 60
    )
    assert signals[0]["unit"] == "dBm"
    assert signals[0]["status"] == "ok"
    assert "WLAN signal" in tool(demo, "sensors", "node1").out


# -- switching ---------------------------------------------------------------------------------------------------------


def test_power_and_wait(demo: Demo):
    all_off(demo)
    (result,) = ask(demo, "power", "node1", "on", "--wait")
    assert (result["node"], result["status"], result["power"], result["error"]) == ("node1", "completed", "on", None)
    assert demo.power(1) == "on"
    status = tool(demo, "power", "node1", "status")
    assert (status.code, status.out.strip()) == (0, "node1: on")
    assert next(row for row in ask(demo, "nodes") if row["id"] == "node1")["last_action"] == "on"


def test_without_wait_it_returns_when_the_command_is_written_down(demo: Demo):
    all_off(demo)
    done = tool(demo, "power", "node1", "on")
    assert done.out.strip() == "node1: on accepted"
    demo.wait_power("on", 1)


def test_many_nodes_at_once_with_a_summary(demo: Demo):
    all_off(demo)
    done = tool(demo, "power", "node[1-3]", "on", "--wait", "--yes", "--parallel", "2", "--interval", "0.1")
    assert done.code == 0, done.text
    assert done.out.splitlines()[-1] == "power on, 3 nodes: 3 done"
    assert [demo.power(n) for n in (1, 2, 3, 4)] == ["on", "on", "on", "off"]


def test_several_nodes_are_not_switched_without_a_yes(demo: Demo):
    all_off(demo)
    done = tool(demo, "power", "node*", "on", stdin="y\n")
    assert done.code == 2
    assert "--yes" in done.err
    assert "node1, node2" in done.err
    assert all(node["power"] == "off" and node["action"] is None for node in ask(demo, "nodes"))


def on_terminal(demo: Demo, words: list[str], typed: list[tuple[str, str]], timeout: float = 60) -> tuple[int, str]:
    """Run the tool on a terminal; whenever a pattern shows up, type the answer to it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(
            PYPMI[0],
            [*PYPMI, "--config", str(demo.folder / "fleet.yaml"), *words],
            {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
    seen, mark, deadline = "", 0, time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(terminal, 65_536)
            except OSError:
                break
            if not data:
                break
            seen += data.decode(errors="replace")
            if typed and (found := re.search(typed[0][0], seen[mark:], re.DOTALL)):
                mark += found.end()
                os.write(terminal, typed.pop(0)[1].encode())
        else:
            raise AssertionError(f"did not end: {seen[-2000:]!r}")
    finally:
        os.close(terminal)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert not typed, f"never asked for {typed[0][0]!r}: {seen!r}"
    return os.waitstatus_to_exitcode(status), seen


def test_on_a_terminal_it_asks(demo: Demo):
    all_off(demo)
    code, seen = on_terminal(demo, ["power", "node[1-2]", "on"], [(r"power on for 2 nodes\?", "n\r")])
    assert code == 1
    assert "nothing was done" in seen
    assert demo.power(1) == "off"
    code, seen = on_terminal(demo, ["power", "node[1-2]", "on", "--wait"], [(r"power on for 2 nodes\?", "y\r")])
    assert code == 0, seen
    assert "2 done" in seen
    assert demo.power(2) == "on"


def test_a_hung_agent_is_not_taken_for_success(demo: Demo):
    all_off(demo)
    (pid,) = demo.pids("esp8266_agent")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = tool(demo, "power", "node1", "on", timeout=90)
    finally:
        os.kill(pid, signal.SIGCONT)
    # the broker or the agent's silence: either way nobody claims that it is on
    assert done.code in {5, 6}, done.text
    assert "accepted" not in done.out
    idle(demo)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["power", "nobody", "on"], 4, "'nobody' is no node of this fleet; there are node1, node2"),
        (["power", "x*", "on"], 4, "'x*' fits no node"),
        (["power", "node1", "explode"], 2, "explode"),
        (["power", "node1", "diag", "--wait"], 1, "off"),
        (["identify", "node1", "on"], 1, "no locator light"),
        (["identify", "node1", "soon"], 2, "number of seconds"),
        (["boot", "node1", "--efi"], 2, "go with a device"),
        (["console", "node*"], 2, "one node's"),
        (["console", "nobody"], 4, "no node"),
        (["nodes", "zzz"], 4, "no node"),
        (["watch", "zzz"], 4, "no node"),
        (["events", "zzz", "--follow"], 4, "no node"),
    ],
)
def test_refusals_say_why(demo: Demo, words, code, text):
    if "diag" in words:
        all_off(demo)
    done = tool(demo, *words)
    assert done.code == code, done.text
    assert text in " ".join(done.text.replace("│", " ").split())
    assert "Traceback" not in done.text


def test_no_broker(demo: Demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["nodes"], ["power", "a", "on"], ["console", "a"], ["watch"]):
        done = run(*PYPMI, "--mqtt", "mqtt://127.0.0.1:1", *words)
        assert done.code == 3, done.text
        assert "cannot reach the broker at 127.0.0.1:1" in done.err
        assert "pypmi doctor" in done.err
        assert "Traceback" not in done.text


def test_a_broker_without_nodes(tmp_path, monkeypatch, demo: Demo):
    monkeypatch.chdir(tmp_path)
    options = ("--mqtt", f"mqtt://127.0.0.1:{demo.mqtt_port}", "--prefix", "elsewhere")
    done = run(*PYPMI, *options, "nodes")
    assert (done.code, "no nodes on the broker" in done.err) == (4, True)
    assert json.loads(run(*PYPMI, *options, "nodes", "--json").out) == []


# -- boot, events, watch -----------------------------------------------------------------------------------------------


def test_boot(demo: Demo):
    done = tool(demo, "boot", "node1", "pxe", "--efi")
    assert (done.code, done.out.strip()) == (0, "node1: boots from pxe once, UEFI")
    (shown,) = ask(demo, "boot", "node1")
    assert (shown["device"], shown["efi"], shown["persistent"], shown["source"]) == ("pxe", True, False, "pypmi")
    assert "Force PXE" in demo.ipmitool("chassis", "bootparam", "get", "5").out
    assert tool(demo, "boot", "node[1-2]", "disk").code == 2  # several: ask first
    done = tool(demo, "boot", "node[1-2]", "disk", "--persistent", "--yes")
    assert done.code == 0, done.text
    assert [row["device"] for row in ask(demo, "boot", "node[1-3]")] == ["disk", "disk", "none"]
    assert tool(demo, "boot", "node[1-2]", "none", "--yes").code == 0
    assert [row["device"] for row in ask(demo, "boot", "*")] == ["none"] * 4


def test_events_as_they_happen(demo: Demo):
    all_off(demo)
    command = [*PYPMI, "--config", str(demo.folder / "fleet.yaml"), "events", "-f", "node2", "--count", "1", "--json"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        # until it listens, switch another node and this one: what is missed is not kept
        def heard() -> bool:
            demo.publish("nodes/node2/power/set", "on" if demo.power(2) == "off" else "off")
            idle(demo)
            return follower.poll() is not None

        until(heard, 60)
        assert follower.stdout is not None
        event = json.loads(follower.stdout.read())
    finally:
        follower.kill()
        follower.wait()
    assert event["node"] == "node2"
    assert event["type"] in {"power_on", "power_off"}
    assert event["cause"] == "command"


def test_events_so_far(demo: Demo):
    all_off(demo)
    assert tool(demo, "power", "node1", "on", "--wait").code == 0
    rows = [row for row in ask(demo, "events") if row["node"] == "node1"]
    assert {"type": "power_on", "cause": "command"}.items() <= rows[-1].items()
    assert "power is on" in tool(demo, "events", "node1").out


def test_watch_writes_a_line_for_each_change(demo: Demo, tmp_path):
    all_off(demo)
    log = tmp_path / "watch"
    command = [*PYPMI, "--config", str(demo.folder / "fleet.yaml"), "watch", "node[1-2]", "--json"]
    with log.open("wb") as out:
        watcher = subprocess.Popen(command, stdout=out)
    try:
        until(lambda: len(log.read_text().splitlines()) >= 2, 30)
        assert tool(demo, "power", "node1", "on", "--wait").code == 0
        assert tool(demo, "power", "node3", "on", "--wait").code == 0
        until(lambda: '"power": "on"' in log.read_text(), 30)
    finally:
        watcher.send_signal(signal.SIGINT)
        code = watcher.wait(20)
    assert code == 130
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["id"] for line in lines} == {"node1", "node2"}
    assert lines[-1]["id"] == "node1"
    assert (lines[-1]["power"], lines[-1]["target"]) == ("on", None)


def test_watch_on_a_terminal(demo: Demo):
    all_off(demo)
    code, seen = on_terminal(demo, ["watch"], [(r"4 nodes: .*node4", "\x03")])
    assert code == 130
    assert "0 on" in seen


# -- console -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def running_node(demo: Demo) -> Demo:
    idle(demo)
    assert tool(demo, "power", "node1", "on", "--wait").code == 0
    return demo


def test_console_on_a_terminal(running_node: Demo):
    until(lambda: "node1:~#" in tool(running_node, "console", "node1", stdin="\r").out, 60, "the machine is up")
    code, seen = on_terminal(
        running_node,
        ["console", "node1"],
        [(r"leaves.*node1:~#", "~?"), (r"sends a break", "\recho marker-$((40+2))\r"), (r"echo marker", "\r~b"),
         (r"break", "\r~.")],
    )  # fmt: skip
    assert code == 0, seen
    assert "console closed" in seen


def test_console_in_a_pipe(running_node: Demo):
    """Scrollback, input and its echo, and an end; and `--read-only` types nothing."""
    done = until(
        lambda: (
            (got := tool(running_node, "console", "node1", "--linger", "3", stdin="\rhelp-me\r"))
            and "help-me: command not found" in got.out
            and got
        ),
        60,
    )
    assert done.code == 0
    quiet = tool(running_node, "console", "node1", "--scrollback", "0", "--linger", "0", stdin="")
    assert (quiet.code, quiet.out) == (0, "")


def test_console_that_is_not_there(demo: Demo):
    (pid,) = demo.pids("sol_relay")
    os.kill(pid, signal.SIGKILL)
    done = tool(demo, "console", "node1", stdin="\r")
    # until the supervisor has started it anew nobody serves the console; then the input goes through
    assert done.code in {0, 5}, done.text
    if done.code == 5:
        assert "relay" in done.err
    until(lambda: tool(demo, "console", "node1", "--linger", "0", stdin="\r").code == 0, 60, "the relay is back")


def test_a_broker_that_has_only_mqtt_3_is_found_out(tmp_path, monkeypatch):
    """As a new user without mosquitto has it: the demo's own broker, and no configuration."""
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    demo = Demo(tmp_path / "demo", nodes=1, extra=("--embedded-broker",))
    options = ("--mqtt", f"mqtt://127.0.0.1:{demo.mqtt_port}")
    try:
        done = run(*PYPMI, *options, "power", "node1", "on", "--wait")
        assert done.code == 0, done.text
        assert "power is on" in done.out
        assert run(*PYPMI, *options, "console", "node1", "--linger", "0", stdin="\r").code == 0
        assert run(*PYPMI, *options, "doctor").code == 0
    finally:
        demo.stop()


def test_check_as_text_and_as_json(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("nodes:\n  - {id: one, hardware: {type: esp8266, host: h}}\n")
    done = run(*PYPMI, "check", str(path))
    assert (done.code, "warning" in done.out, "1 nodes" in done.out) == (0, True, True)
    path.write_text("nodes:\n  - {id: one, hardware: {type: esp8266, hots: h}}\n")
    assert run(*PYPMI, "check", str(path)).code == 1
    done = run(*PYPMI, "check", str(path), "--json")
    problems = json.loads(done.out)
    assert done.code == 1
    assert ("nodes[0].hardware.hots", 2, False) in {(p["field"], p["line"], p["warning"]) for p in problems}


# -- help --------------------------------------------------------------------------------------------------------------


def test_node_names_complete(demo: Demo, tmp_path):
    """As the completion that `--install-completion` sets up asks for them."""
    environment = {
        **os.environ, "_PYPMI_COMPLETE": "complete_bash", "COMP_CWORD": "4",
        "COMP_WORDS": f"pypmi --config {demo.folder / 'fleet.yaml'} power node",
    }  # fmt: skip
    program = Path(PYPMI[0]).parent / "pypmi"
    done = subprocess.run([str(program)], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["node1", "node2", "node3", "node4"], done.stderr


def test_every_command_has_help():
    done = run(*PYPMI, "--help")
    assert done.code == 0
    commands = re.findall(r"^ {2}([a-z]+) {2,}", done.out.split("Commands:")[1], re.MULTILINE)
    assert {"nodes", "watch", "power", "console", "boot", "identify", "events", "sensors", "doctor", "scan"} <= set(
        commands
    )
    for command in commands:
        said = CliRunner().invoke(app, [command, "--help"])
        assert (said.exit_code, "Usage:" in said.output) == (0, True), said.output
