"""Record the README's terminal session: the real demo, the real ipmitool, drawn as an SVG.

Run it as `make record`. Each recording differs a little (times, ids).
"""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent / "img" / "session.svg"
WIDTH = 104
GATEWAY_PORT, MQTT_PORT = 6230, 1883
"""As the docs name them; the recording may run on others."""

TOOL = "ipmitool -I lanplus -H 127.0.0.1 -p 6230 -U admin -P changeme"
SESSION = (
    f"ipmi='{TOOL}'",
    "$ipmi -t 1 power status",
    "$ipmi -t 1 power on",
    "$ipmi -t 1 sol activate",
    "$ipmi -t 1 sel elist last 2",
    "mosquitto_sub -t nodes/node1/state -C 1",
    "mosquitto_pub -t nodes/node2/power/set -m on",
)


class Demo:
    """The demo on free ports."""

    def __init__(self, folder: Path) -> None:
        ready = folder / "ready.json"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pypmi_cli", "demo", "--ready-file", ready, "--state-dir", folder,
             "--port", str(GATEWAY_PORT + 20_000 + os.getpid() % 500 * 5)],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        while not ready.exists():
            if self._process.poll() is not None:
                raise SystemExit("the demo did not start")
            time.sleep(0.05)
        self._ready = json.loads(ready.read_text())
        self.greeting = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.greeting += line
            if line.startswith("  files"):
                break

    def there(self, text: str) -> str:
        """With the ports of this demo, for running."""
        text = text.replace(f"-p {GATEWAY_PORT}", f"-p {self._ready['gateway']['port']}")
        return re.sub(r"^(mosquitto_\w+)", rf"\1 -p {self._ready['mqtt']['port']}", text)

    def shown(self, text: str) -> str:
        """With the ports of the docs, for showing."""
        text = text.replace(str(self._ready["gateway"]["port"]), str(GATEWAY_PORT))
        return text.replace(str(self._ready["mqtt"]["port"]), str(MQTT_PORT))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)


def run(command: str, *, interactive: bool) -> str:
    """Run a command on a terminal; an interactive one gets a look around, and `~.`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "-c", command])
    said, started = b"", time.monotonic()
    keys = [(6.0, b"\r"), (8.0, b"~.")] if interactive else []
    try:
        while time.monotonic() - started < 30:
            if keys and time.monotonic() - started > keys[0][0]:
                os.write(terminal, keys.pop(0)[1])
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 4096)
    except OSError:  # it has ended
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return said.decode(errors="replace").replace("\r", "")


def typescript() -> list[tuple[str, str]]:
    """What was typed, and what was said."""
    with tempfile.TemporaryDirectory() as name:
        demo = Demo(Path(name))
        try:
            steps = [("make demo", re.sub(r"\n  files.*\n", "\n", demo.shown(demo.greeting)).strip() + "\n")]
            setting = SESSION[0]
            for command in SESSION:
                interactive = "activate" in command
                whole = demo.there(command) if command is setting else f"{demo.there(setting)}; {demo.there(command)}"
                steps.append((command, demo.shown(run(whole, interactive=interactive))))
                if command.endswith("power on"):
                    time.sleep(1.5)
        finally:
            demo.stop()
    return steps


def draw(steps: list[tuple[str, str]]) -> str:
    """The session as SVG, in whatever fixed-width font the viewer has: nothing is fetched from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for command, said in steps:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).rstrip("\n").split("\n"):
            if line.strip():
                console.print(Text(line[: WIDTH - 1] if len(line) < 2 * WIDTH else line), no_wrap=len(line) < 2 * WIDTH)
    form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, Consolas")
    return console.export_svg(title="pypmi", code_format=form, unique_id="session")


if __name__ == "__main__":
    PICTURE.write_text(draw(typescript()), encoding="utf-8")
    print(PICTURE, "written")
