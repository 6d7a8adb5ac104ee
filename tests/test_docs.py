"""The docs are true: links lead somewhere, commands work on a real fleet, examples load, generated pages are current.

What a code block's first words mean stands in CONTRIBUTING.md, "Docs".
"""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
import yaml
from pypmi.config.load import parse_fleet
from pypmi.contract import TopicKind, Topics
from stack import Demo, free_tcp_port, free_udp_base, run, until

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
import generate  # noqa: E402 - the docs' own script

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "services/*/README.md", "deploy/**/*.md", "tests/**/*.md")
    for page in ROOT.glob(pattern)
)
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+(?:\([^()]*\))?)(?: \"[^\"]*\")?\)")
_HTML = re.compile(r"<(?:img|a|source)\b[^>]*\b(?:src|href|srcset)=\"(?P<target>[^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$", re.MULTILINE)
_KNOWN = {
    "sh", "sh demo", "sh tty", "sh background", "console", "text", "text output", "python", "python background",
    "yaml", "yaml fleet", "json", "ini", "mermaid", "jinja", "toml", "javascript", "promql", "",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One fenced code block."""

    info: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(source):
        indent = len(match["indent"])
        text = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        found.append(Block(match["info"].strip(), text, source.count("\n", 0, match.start()) + 2))
    return found


def without_code(source: str) -> str:
    """A page's prose: no code blocks, no code in lines."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", source))


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of a page's headings, and those it has by itself."""
    source = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", source))
    for match in _HEADING.finditer(source):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match["text"]).replace("`", "").replace("*", "")
        name = base = generate.anchor(text)
        number = 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page: Path) -> None:
    source = without_code(page.read_text(encoding="utf-8"))
    wrong = []
    for match in [*_LINK.finditer(source), *_HTML.finditer(source)]:
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            if not re.match(r"(https://[a-z0-9.-]+(/\S*)?|mailto:\S+@\S+)$", target):
                wrong.append(f"{target}: not https")
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / unquote(name)).resolve() if name else page
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif not file.is_relative_to(ROOT):
            wrong.append(f"{target}: outside the repository")
        elif fragment and file.suffix == ".md" and fragment not in anchors(file):
            wrong.append(f"{target}: no such heading")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_code_blocks_are_of_a_known_kind(page: Path) -> None:
    unknown = [f"line {block.line}: {block.info!r}" for block in blocks(page) if block.info not in _KNOWN]
    assert not unknown, f"see CONTRIBUTING.md, Docs: {unknown}"


def test_every_page_is_in_the_index() -> None:
    linked = set()
    for page in PAGES:
        source = without_code(page.read_text(encoding="utf-8"))
        linked |= {(page.parent / match["target"].partition("#")[0]).resolve() for match in _LINK.finditer(source)}
    alone = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in linked]
    alone.remove(ROOT / "docs/README.md") if ROOT / "docs/README.md" in alone else None
    assert not alone


def test_pictures_are_well_formed() -> None:
    for picture in (ROOT / "docs").rglob("*.svg"):
        root = ET.fromstring(picture.read_text(encoding="utf-8"))
        assert root.tag.endswith("svg"), picture
        assert "viewBox" in root.attrib, f"{picture} can't be scaled"


# -- examples ----------------------------------------------------------------------------------------------------------


def examples(info: str) -> Iterator[object]:
    for page, name in zip(PAGES, PAGE_IDS, strict=True):
        for block in blocks(page):
            if block.info == info:
                yield pytest.param(block.text, id=f"{name}:{block.line}")


@pytest.mark.parametrize("text", [*examples("yaml fleet")])
def test_fleet_examples_load(text: str) -> None:
    fleet, warnings = parse_fleet(text)
    assert fleet.nodes
    assert not warnings


@pytest.mark.parametrize("text", [*examples("yaml")])
def test_yaml_examples_are_yaml(text: str) -> None:
    list(yaml.safe_load_all(text))


def test_json_examples_are_json() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.info == "json":
                json.loads(block.text)


# -- what is generated -------------------------------------------------------------------------------------------------


def test_generated_parts_are_current() -> None:
    for page in generate.pages():
        text = page.read_text(encoding="utf-8")
        assert generate.rendered(text) == text, f"{page.relative_to(ROOT)}: run make docs"


def test_every_setting_and_payload_is_described() -> None:
    bare = []
    for model in [model for _, model in generate.SECTIONS] + list(generate.PAYLOADS):
        texts = generate.field_docstrings(model)
        bare += [f"{model.__name__}.{name}" for name in model.model_fields if name not in texts]
    assert not bare


def test_every_part_of_the_configuration_has_its_table() -> None:
    from pypmi.config.base import Section

    parts = {model for model in Section.__subclasses__() if model.__module__.startswith("pypmi.config.")}
    assert parts <= {model for _, model in generate.SECTIONS}


def test_every_payload_has_its_table() -> None:
    from pypmi.contract.base import Payload

    documented = {model.__name__ for model in generate.PAYLOADS} | {"IdentifyRequest"}  # a bare word or number
    payloads = {model.__name__ for model in Payload.__subclasses__() if model.__module__.startswith("pypmi.contract.")}
    assert payloads <= documented


def test_topics_of_the_contract_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `((?:nodes|services)/[^`]+)` \|", page, re.MULTILINE)
    kinds = [
        Topics().parse(topic.replace("<id>", "n").replace("<name>", "n").replace("<key>", "k")).kind for topic in listed
    ]
    assert sorted(kinds) == sorted(TopicKind)


# -- commands ----------------------------------------------------------------------------------------------------------

_PRELUDE = r"""
set -euo pipefail
shopt -s expand_aliases
# the broker of a test has another port; a subscriber that has no end of its own gets one
mosquitto_pub() { command mosquitto_pub -p "$DEMO_MQTT_PORT" "$@"; }
mosquitto_rr() { command mosquitto_rr -p "$DEMO_MQTT_PORT" "$@"; }
mosquitto_sub() {
    local status=0
    command mosquitto_sub -p "$DEMO_MQTT_PORT" -W 3 "$@" || status=$?
    [ "$status" = 0 ] || [ "$status" = 27 ]
}
"""
_GATEWAY_PORT, _MQTT_PORT = 6230, 1883


class Runner:
    """Runs one page's commands in a folder of its own, against a demo."""

    def __init__(self, demo: Demo, folder: Path) -> None:
        self._demo = demo
        self._folder = folder
        self._background: list[subprocess.Popen[bytes]] = []
        home = folder / "home"
        home.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python").symlink_to(sys.executable)
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "DEMO_MQTT_PORT": str(demo.mqtt_port),
            "PYPMI_CONFIG": str(demo.folder / "fleet.yaml"),
            "ROOT": str(ROOT),
            "TERM": "xterm",
        }

    def here(self, text: str) -> str:
        """A text of the docs with the ports of this demo."""
        for offset in range(5):
            text = re.sub(rf"\b{_GATEWAY_PORT + offset}\b", str(self._demo.port + offset), text)
        return re.sub(rf"\b{_MQTT_PORT}\b", str(self._demo.mqtt_port), text)

    def sh(self, text: str) -> str:
        """Run a block; returns what it said. Fails when any command of it fails."""
        done = subprocess.run(
            ["bash", "-c", _PRELUDE + self.here(text)],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def python(self, text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning", "-c", self.here(text)],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, command: list[str], text: str) -> None:
        """Start a block that has no end; it is stopped after the page."""
        process = subprocess.Popen(
            [*command, self.here(text)],
            cwd=self._folder, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self._background.append(process)
        time.sleep(2)
        assert process.poll() is None, f"{text}\nended at once with {process.returncode}"

    def tty(self, text: str) -> str:
        """Run an interactive block on a terminal: press enter, look, and leave with `~.`."""
        command = " ".join(line for line in self.here(text).splitlines() if line.strip())
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self._folder)
            os.execvpe("bash", ["bash", "-c", command], self._environment)
        seen = b""
        typed = [(2.0, b"\r"), (4.0, b"\r"), (6.0, b"\r~."), (9.0, b"\r&."), (12.0, b"\x03")]
        started = time.monotonic()
        try:
            while time.monotonic() - started < 30:
                if typed and time.monotonic() - started > typed[0][0]:
                    os.write(terminal, typed.pop(0)[1])
                if select.select([terminal], [], [], 0.2)[0]:
                    data = os.read(terminal, 4096)
                    if not data:
                        break
                    seen += data
        except OSError:  # the other side has closed the terminal
            pass
        finally:
            os.close(terminal)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return seen.decode(errors="replace").replace("\r", "")

    def stop(self) -> None:
        for process in reversed(self._background):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def matches(expected: str, said: str) -> bool:
    """Whether each line of `expected` was said, in this order; `...` stands for anything."""
    lines = iter(" ".join(line.split()) for line in said.splitlines())
    for wanted in expected.splitlines():
        pattern = " ".join(wanted.split()).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
        pattern = pattern.replace("...", "*")
        if wanted.strip() in {"", "..."}:
            continue
        if not any(fnmatchcase(line, pattern) for line in lines):
            return False
    return True


_RUNNABLE = ("sh", "sh tty", "sh background", "python", "python background")
WITH_COMMANDS = [page for page in PAGES if any(block.info in _RUNNABLE for block in blocks(page))]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=[str(page.relative_to(ROOT)) for page in WITH_COMMANDS])
def test_commands_work(page: Path, demo: Demo, tmp_path: Path) -> None:
    demo.wait_idle()  # what the last page's commands began
    runner = Runner(demo, tmp_path)
    said = ""
    try:
        for block in blocks(page):
            match block.info:
                case "sh":
                    said = runner.sh(block.text)
                case "sh tty":
                    said = runner.tty(block.text)
                case "sh background":
                    runner.start(["bash", "-c"], block.text)
                case "python":
                    said = runner.python(block.text)
                case "python background":
                    runner.start([sys.executable, "-c"], block.text)
                case "sh demo":
                    assert block.text.split() in (["make", "demo"], ["pypmi", "demo"]), block.text
                case "text output":
                    where = f"{page.relative_to(ROOT)} line {block.line}"
                    assert matches(runner.here(block.text), said), f"{where}:\n{block.text}\nbut it said:\n{said}"
    finally:
        runner.stop()


def test_make_demo_is_pypmi_demo() -> None:
    assert "$(BIN)/pypmi demo $(ARGS)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert shutil.which("make")


@pytest.mark.timeout(200)
def test_quick_start_on_a_blank_board(tmp_path: Path) -> None:
    """Every step of the quick start, in its order, on a board as it comes from the flashing adapter."""
    page = ROOT / "docs/quickstart.md"
    ready = tmp_path / "boards.json"
    simulator = subprocess.Popen(
        [sys.executable, "-m", "pypmi_simulator", "--boards", "1", "--blank", "--no-udp", "--ready-file", str(ready)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    udp, mqtt = free_udp_base(1), free_tcp_port()
    try:
        until(ready.exists, 30, "simulator ready")
        board = json.loads(ready.read_text())["boards"][0]["port"]

        def here(text: str) -> str:
            # the simulated board is on loopback, and its PC's LED on pin 2
            text = text.replace("host: 192.0.2.11 ", f"host: 127.0.0.1\n      port: {board} ").replace(
                "pin: 3", "pin: 2"
            )
            return text.replace("192.0.2.11", "127.0.0.1").replace("6230", str(udp)).replace("8883", str(mqtt))

        steps = 0
        for block in blocks(page):
            if block.info == "yaml":
                config = tmp_path / "fleet/fleet.yaml"
                text = config.read_text()
                text = here(text[: text.index("nodes:")] + block.text).replace("[::]:623", f"127.0.0.1:{udp}")
                config.write_text(text)
            if block.info == "sh":
                done = subprocess.run(["bash", "-euc", here(block.text)], cwd=tmp_path, env=environment, check=False)
                assert done.returncode == 0, block.text
            if block.info != "console" or "make setup" in block.text:
                continue
            for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", here(block.text), re.MULTILINE):
                steps += 1
                if command.startswith("pypmi up"):
                    running.append(subprocess.Popen(command.split(), cwd=tmp_path, env=environment))
                    continue

                def works(command: str = command, expected: str = expected) -> bool:
                    said = subprocess.run(
                        ["bash", "-c", command],
                        cwd=tmp_path,
                        env=environment,
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                    return said.returncode == 0 and matches(expected, said.stdout)

                until(works, 40, command)
        assert steps == 4
    finally:
        for process in [*running, simulator]:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_site_bridge_passes_commands_and_keeps_none(tmp_path: Path) -> None:
    """The bridge of docs/scaling.md on two real brokers: it carries commands and state, and delivers nothing late."""
    (block,) = (block for block in blocks(ROOT / "docs/scaling.md") if block.info == "ini")
    central_port, site_port = free_tcp_port(), free_tcp_port()
    lines = block.text.replace("central.example.net:8883", f"127.0.0.1:{central_port}").splitlines()
    bridge = "\n".join(line for line in lines if not line.startswith(("bridge_cafile", "remote_")))
    listener = "listener {} 127.0.0.1\nallow_anonymous true\nlog_type all\nlog_dest stderr\n"
    (tmp_path / "central.conf").write_text(listener.format(central_port))
    (tmp_path / "site.conf").write_text(listener.format(site_port) + bridge + "\n")
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        with (tmp_path / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(["mosquitto", "-c", str(tmp_path / f"{name}.conf")], stderr=log)

    def stop(name: str) -> None:
        running[name].terminate()
        running.pop(name).wait(10)

    def joined(value: str) -> bool:
        topic = "$SYS/broker/connection/+/state"
        seen = run("mosquitto_sub", "-p", str(central_port), "-t", topic, "-C", "1", "-W", "2")
        return seen.out.strip() == value

    try:
        start("central")
        start("site")
        until(lambda: joined("1"), 30, "bridge up")
        agent = subprocess.Popen(
            ["mosquitto_sub", "-p", str(site_port), "-t", "nodes/+/power/set", "-q", "0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running["agent"] = agent  # type: ignore[assignment]
        time.sleep(1)
        publish = ("mosquitto_pub", "-q", "1", "-t")
        assert run(*publish, "nodes/a/power/set", "-p", str(central_port), "-m", "on").code == 0
        assert agent.stdout is not None
        assert agent.stdout.readline() == "on\n"
        assert run(*publish, "nodes/a/state", "-p", str(site_port), "-r", "-m", "{}").code == 0
        seen = run("mosquitto_sub", "-p", str(central_port), "-t", "nodes/a/state", "-C", "1", "-W", "5")
        assert seen.out == "{}\n"
        assert "'nodes/a/power/set'" in (tmp_path / "site.log").read_text()
        stop("site")
        until(lambda: joined("0"), 30, "bridge down")
        assert run(*publish, "nodes/a/power/set", "-p", str(central_port), "-m", "late").code == 0
        stop("agent")
        start("site")
        until(lambda: joined("1"), 60, "bridge up again")
        time.sleep(2)
        assert "nodes/a/power/set'" not in (tmp_path / "site.log").read_text()
    finally:
        for name in list(running):
            stop(name)


def test_node_red_flow_keeps_to_the_contract() -> None:
    flow = json.loads((ROOT / "docs/integrations/node-red.json").read_text(encoding="utf-8"))
    topics = [node for node in flow if node["type"] in {"mqtt in", "mqtt out"}]
    for node in topics:
        assert Topics().parse(node["topic"].replace("+", "x"))
    assert [node["retain"] for node in topics if node["type"] == "mqtt out"] == ["false"]
    names = {node["id"] for node in flow}
    assert all(target in names for node in flow for wire in node.get("wires", ()) for target in wire)
