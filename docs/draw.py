"""Draw the docs' diagrams as SVG: who sends what to whom, from top to bottom. `make docs` runs it.

The pictures have their own white ground, so that they read well in dark viewers too, and fetch nothing from elsewhere.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

IMG = Path(__file__).parent / "img"
_LANE, _STEP, _TOP, _MARGIN = 212, 42, 74, 16
_INK, _FAINT, _BLUE, _RED, _GROUND = "#1f2328", "#8c959f", "#0969da", "#cf222e", "#ddf4ff"
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Message:
    """An arrow from one lane to another; `dashed` for answers."""

    sender: str
    receiver: str
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class Note:
    """A box over one lane, or from one lane to another."""

    first: str
    last: str
    text: str
    alarm: bool = False


Step = Message | Note


def sequence(title: str, lanes: tuple[str, ...], steps: tuple[Step, ...]) -> str:
    """A sequence diagram. A lane's name may have a second line after a newline."""
    width = _MARGIN * 2 + _LANE * len(lanes)
    height = _TOP + _STEP * (len(steps) + 1)
    at = {lane.split("\n")[0]: _MARGIN + _LANE * index + _LANE // 2 for index, lane in enumerate(lanes)}
    parts = [_head(title, width, height)]
    for lane in lanes:
        name, _, second = lane.partition("\n")
        x = at[name]
        parts.append(f"<line x1='{x}' y1='62' x2='{x}' y2='{height - 14}' stroke='{_FAINT}' stroke-dasharray='2 4'/>")
        parts.append(_box(x - 80, 14, 160, 48, _GROUND, _BLUE))
        parts.append(_text(x, 36 if second else 43, name, weight="600"))
        if second:
            parts.append(_text(x, 53, second, size=11, color=_FAINT))
    for number, step in enumerate(steps):
        y = _TOP + _STEP * number + 26
        parts += _arrow(at, step, y) if isinstance(step, Message) else _note(at, step, y)
    return "\n".join([*parts, "</svg>", ""])


def _arrow(at: dict[str, int], step: Message, y: int) -> list[str]:
    left, right = at[step.sender], at[step.receiver]
    way = 1 if right > left else -1
    dash = " stroke-dasharray='6 4'" if step.dashed else ""
    head = f"M{right} {y} l{-9 * way} -5 v10 z"
    return [
        f"<line x1='{left}' y1='{y}' x2='{right - 8 * way}' y2='{y}' stroke='{_INK}' stroke-width='1.5'{dash}/>",
        f"<path d='{head}' fill='{_INK}'/>",
        _text((left + right) // 2, y - 7, step.text, size=12, halo=True),
    ]


def _note(at: dict[str, int], step: Note, y: int) -> list[str]:
    left, right = sorted((at[step.first], at[step.last]))
    half = max((len(step.text) * 7 + 20 - (right - left)) // 2, 70)
    color = _RED if step.alarm else "#9a6700"
    return [
        _box(left - half, y - 22, right - left + 2 * half, 30, "#ffebe9" if step.alarm else "#fff8c5", color),
        _text((left + right) // 2, y - 3, step.text, size=12),
    ]


def _head(title: str, width: int, height: int) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' {_FONT}>\n"
        f"<title>{escape(title)}</title>\n<rect width='{width}' height='{height}' rx='8' fill='#ffffff'/>"
    )


def _box(x: int, y: int, width: int, height: int, fill: str, stroke: str) -> str:  # noqa: PLR0917
    return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='6' fill='{fill}' stroke='{stroke}'/>"


def _text(x: int, y: int, text: str, *, size: int = 14, weight: str = "400", color: str = _INK, halo: bool = False,
          anchor: str = "middle") -> str:  # fmt: skip
    around = " stroke='#ffffff' stroke-width='4' paint-order='stroke'" if halo else ""
    return (
        f"<text x='{x}' y='{y}' font-size='{size}' font-weight='{weight}' fill='{color}' "
        f"text-anchor='{anchor}'{around}>{escape(text)}</text>"
    )


POWER = sequence(
    "The way of one power command",
    ("ipmitool", "ipmi-gateway", "MQTT broker", "agent\nits journal on disk", "relay board\nor pin", "machine"),
    (
        Message("ipmitool", "ipmi-gateway", "chassis power on, -t 1"),
        Note("ipmi-gateway", "ipmi-gateway", "may this user switch node1?"),
        Message("ipmi-gateway", "MQTT broker", "nodes/node1/power/set"),
        Message("MQTT broker", "agent", "id, action, life 1.5 s"),
        Note("agent", "agent", "new id? in time? idle? journal it"),
        Message("agent", "ipmi-gateway", "accepted", dashed=True),
        Message("ipmi-gateway", "ipmitool", "Up/On, after some 20 ms", dashed=True),
        Message("agent", "relay board", "read status: off"),
        Message("agent", "relay board", "pulses that it times itself"),
        Message("relay board", "machine", "button pressed for 1 s"),
        Message("machine", "relay board", "power LED on", dashed=True),
        Message("relay board", "agent", "status: on", dashed=True),
        Message("agent", "MQTT broker", "result completed; state on"),
        Message("MQTT broker", "ipmi-gateway", "state, kept for power status"),
    ),
)

CONSOLE = sequence(
    "The way of console bytes",
    ("ipmitool", "ipmi-gateway", "MQTT broker", "sol-relay\nring and log", "serial port"),
    (
        Message("ipmitool", "ipmi-gateway", "sol activate, -t 1"),
        Message("ipmi-gateway", "sol-relay", "sol/set: open, replay"),
        Message("sol-relay", "ipmi-gateway", "what was said before", dashed=True),
        Message("ipmi-gateway", "ipmitool", "scrollback, then live", dashed=True),
        Message("serial port", "sol-relay", "login:"),
        Message("sol-relay", "MQTT broker", "sol/rx + stream, offset"),
        Message("MQTT broker", "ipmi-gateway", "a gap? ask for a replay"),
        Message("ipmi-gateway", "ipmitool", "packet, again until acknowledged"),
        Message("ipmitool", "ipmi-gateway", "root"),
        Message("ipmi-gateway", "MQTT broker", "sol/tx + stream, offset"),
        Message("MQTT broker", "sol-relay", "had it already? drop it"),
        Message("sol-relay", "serial port", "root"),
        Message("sol-relay", "ipmi-gateway", "ack: written up to 4", dashed=True),
    ),
)

BOOT = sequence(
    "The way of a boot intent",
    ("ipmitool", "ipmi-gateway", "MQTT broker", "agent\nHTTP endpoint", "machine\niPXE"),
    (
        Message("ipmitool", "ipmi-gateway", "chassis bootdev pxe"),
        Message("ipmi-gateway", "MQTT broker", "nodes/node1/boot/set"),
        Message("MQTT broker", "agent", "device pxe, once"),
        Message("agent", "MQTT broker", "nodes/node1/boot, retained"),
        Message("ipmitool", "ipmi-gateway", "chassis power on"),
        Message("ipmi-gateway", "agent", "power/set on"),
        Note("agent", "machine", "press; the machine starts: the intent is spent"),
        Message("agent", "MQTT broker", "nodes/node1/boot: none"),
        Message("machine", "agent", "GET the script for my MAC"),
        Message("agent", "machine", "chain to the installer", dashed=True),
        Note("agent", "machine", "the next start gets: exit, boot from disk"),
    ),
)

STARTUP = sequence(
    "Start-up, in any order",
    ("agent", "MQTT broker", "ipmi-gateway", "relay board"),
    (
        Note("agent", "agent", "own a lock, read the journal"),
        Note("agent", "agent", "cut short: failed, not done again"),
        Message("agent", "MQTT broker", "connect, last will: offline"),
        Message("agent", "MQTT broker", "online, info, all retained topics"),
        Message("agent", "relay board", "connect, compare set-up, let go"),
        Message("relay board", "agent", "status: on", dashed=True),
        Message("agent", "MQTT broker", "node online, state on, new epoch"),
        Message("ipmi-gateway", "MQTT broker", "connect, subscribe"),
        Message("MQTT broker", "ipmi-gateway", "retained state of all nodes"),
        Note("ipmi-gateway", "ipmi-gateway", "answers from what it has"),
        Note("agent", "relay board", "nothing was pressed"),
    ),
)


def whole() -> str:
    """The one picture of the whole."""
    width, height = 1000, 560
    parts = [_head("pypmi: the whole", width, height)]

    def box(x: int, y: int, w: int, name: str, *lines: str, fill: str = "#ffffff", stroke: str = _FAINT) -> None:
        parts.append(_box(x, y, w, 34 + 17 * len(lines), fill, stroke))
        parts.append(_text(x + w // 2, y + 22, name, weight="600"))
        for number, line in enumerate(lines):
            parts.append(_text(x + w // 2, y + 41 + 17 * number, line, size=12, color="#57606a"))

    def line(x1: int, y1: int, x2: int, y2: int, text: str = "") -> None:
        parts.append(f"<path d='M{x1} {y1} L{x2} {y2}' stroke='{_INK}' stroke-width='1.5' fill='none'/>")
        if text:
            parts.append(_text((x1 + x2) // 2 + 8, (y1 + y2) // 2 + 5, text, size=12, halo=True, anchor="start"))

    line(220, 68, 220, 150, "IPMI 2.0, UDP 623")
    line(560, 68, 560, 272, "MQTT")
    line(840, 68, 840, 272, "MQTT")
    line(220, 201, 220, 272, "MQTT")
    for x in (135, 378, 622, 865):
        line(x, 306, x, 360)
    line(135, 411, 135, 470, "TCP 24, or MQTT")
    line(378, 411, 378, 470, "GPIO")
    line(622, 411, 622, 470, "IPMI")
    line(865, 411, 865, 470, "serial, TCP")
    box(60, 17, 320, "IPMI tools", "ipmitool, FreeIPMI, Ironic, MAAS, conman")
    box(440, 17, 240, "Home Assistant, Node-RED", "dashboards, automations")
    box(720, 17, 240, "People and scripts", "pypmi, mosquitto_pub, mosquitto_sub")
    box(60, 150, 320, "ipmi-gateway", "sessions, users, targets, event log, consoles", fill=_GROUND, stroke=_BLUE)
    parts.append(_box(30, 272, 940, 34, "#f6f8fa", _INK))
    parts.append(_text(500, 294, "MQTT broker: nodes/<id>/…  services/<name>/…", weight="600"))
    box(30, 360, 210, "esp8266-agent", "journal; hundreds of boards", fill=_GROUND, stroke=_BLUE)
    box(273, 360, 210, "rpi-gpio-agent", "journal; one Pi", fill=_GROUND, stroke=_BLUE)
    box(517, 360, 210, "bmc-agent", "journal; real BMCs", fill=_GROUND, stroke=_BLUE)
    box(760, 360, 210, "sol-relay", "ring and log of each console", fill=_GROUND, stroke=_BLUE)
    box(30, 470, 210, "relay boards", "Universal I/O bridge,", "Tasmota, ESPHome")
    box(273, 470, 210, "Raspberry Pi", "buttons by optocoupler,", "power LED")
    box(517, 470, 210, "servers", "with a BMC of their own")
    box(760, 470, 210, "serial consoles", "USB adapters, ser2net,", "the relay boards' UART")
    return "\n".join([*parts, "</svg>", ""])


PICTURES = {
    "whole.svg": whole(),
    "flow-power.svg": POWER,
    "flow-console.svg": CONSOLE,
    "flow-boot.svg": BOOT,
    "flow-start.svg": STARTUP,
}


def main() -> int:
    """Write the pictures, or with `--check` only say which are not current; returns the exit status."""
    stale = [name for name, text in PICTURES.items() if not (IMG / name).exists() or (IMG / name).read_text() != text]
    for name in stale:
        if "--check" in sys.argv[1:]:
            print(f"docs/img/{name} is not current: run make docs")
        else:
            (IMG / name).write_text(PICTURES[name], encoding="utf-8")
            print(f"docs/img/{name} written")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
