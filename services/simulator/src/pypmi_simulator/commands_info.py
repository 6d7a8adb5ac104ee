"""Commands about the session, statistics, log, sequencer and raw UART (reference sections 2, 3, 6.6).

The statistics have the lines that the reference names, in the firmware's layout, with made-up but
plausible numbers for what the simulation does not have (heap, stack, radio).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from . import commands_config, commands_io
from .eras import TRAITS, Era
from .pins import PinError
from .sequencer import ENTRY_COUNT, FLASH_SIZE, Step
from .text import Line

if TYPE_CHECKING:
    from .firmware import Firmware, Handler, Outcome

_HTTP_SET: Final = re.compile(r"/set\?io=(\d+)&pin=(\d+)&value=(\d+)")


# -- session ----------------------------------------------------------------------------------------


def quit_session(_fw: Firmware, _line: Line, _now: float) -> Outcome:
    """`q`: the device resets the connection."""
    from .firmware import Action, Outcome

    return Outcome(b"> disconnect\n", Action.DISCONNECT)


def reset(_fw: Firmware, _line: Line, _now: float) -> Outcome:
    """`r`: the chip restarts once the client has closed."""
    from .firmware import Action, Outcome

    return Outcome(b"> reset\n", Action.RESET)


def help_text(fw: Firmware, line: Line, _now: float) -> str:
    """`?`: the commands."""
    names = [
        entry[0] for module in (commands_io, commands_config) for entry in module.COMMANDS if fw.era in entry[2]
    ] + [entry[0] for entry in COMMANDS if fw.era in entry[2]]
    if fw.era is not Era.NEWEST:
        return "".join(f"> {short}/{long}: {long.replace('-', ' ')}\n" for short, long in names)
    topic = line.word(1)
    if topic is not None:
        found = [f"{s}/{n}: {n.replace('-', ' ')}\n" for s, n in names if topic in {s, n}]
        return "".join(found) or "help: no match\n"
    return " ".join(f"{short}/{long}" for short, long in names) + "\n"


# -- statistics -------------------------------------------------------------------------------------


def stats(fw: Firmware, _line: Line, _now: float) -> str:
    """`s`: firmware, memory, cause of the last reset."""
    date = TRAITS[fw.era].firmware_date
    if fw.era is Era.OLD:
        return (
            f"> firmware version date: {date}\n> SDK version: 2.2.0-dev(9422289)\n> system id: 10597059\n"
            "> spi flash id: 001440c8, manufacturer: GigaDevice, speed: 40 MHz, size: 1024 kib / 1 MiB\n"
            f"> cpu frequency: 80 MHz\n> reset cause: {fw.reset_cause}, exception: 0, epc1: 0, epc2: 0, epc3: 0, "
            "excvaddr: 0, depc: 0\n> heap free current: 30208, min: 29824, max: 31000 bytes\n>\n> stack:\n"
            ">   size: 4096 bytes\n>   used: 1248 bytes\n>   free: 2848 bytes\n>\n> No OTA image\n"
        )
    commit = "6dbfdbf" if fw.era is Era.NEWEST else "9b22cb8"
    return (
        f"> firmware\n>   date: {date}\n>   git commit: {commit}\n>\n> heap:\n"
        ">   free: current: 30208, min: 29824, max: 31000\n>\n> stack:\n"
        ">   size: 4096, painted: 3968, not painted: 128\n"
        ">   currently used: 416/10%, max used: 1248/30%, unused: 2848/69%\n>\n> system\n>   id: a1:b2:c3\n"
        f">   cpu frequency: 80 MHz\n>   SDK version: 2.2.0-dev(9422289)\n>   reset cause: {_cause(fw)}\n"
    )


def _cause(fw: Firmware) -> str:
    return fw.reset_cause if fw.reset_cause.endswith("reset") else f"{fw.reset_cause} reset"


def _clock(seconds: float) -> tuple[int, int, int, int, int]:
    whole = int(seconds)
    return whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60, int(seconds * 1000) % 1000


def stats_time(fw: Firmware, _line: Line, now: float) -> str:
    """`st`: uptime."""
    up = fw.uptime(now)
    day, hour, minute, second, milli = _clock(up)
    micros = int(up * 1e6)
    if fw.era is not Era.NEWEST:
        when = f"{day:2d} {hour:02d}:{minute:02d}:{second:02d}.{milli:03d} (r1={micros & 0xFFFFFFFF},r2=0,b=0,w=0)"
        return (
            f"> uptime: {when}\n> system: {when}\n> rtc:    {when}\n> timer:  {when}\n"
            "> ntp:     0 00:00:00.000 (r1=0,r2=0,b=0,w=0)>\n> time:   1970/01/01 00:00:00, source: rtc\n"
            "> sntp:   poll: 0, received: 0\n"
        )

    def row(name: str) -> str:
        return (
            f"> {name:<6} {day:3d} {hour:02d}:{minute:02d}:{second:02d}.{milli:03d} "
            f"{micros >> 32:08x} {micros & 0xFFFFFFFF:08x} {0:08x} {0:5d}\n"
        )

    return (
        "> subsys day HH:MM:SS.ms  msw      lsw      base     wraps\n"
        + row("uptime") + row("system") + row("timer") + row("rtc")
        + "> source: rtc\n> time zone: 0\n"
    )  # fmt: skip


def stats_counters(fw: Firmware, _line: Line, now: float) -> str:
    """`sc`: counters, of commands among others."""
    counters, ticks = fw.counters, int(fw.uptime(now) * 100)
    text = (
        f"> INTERRUPTS\n>   nonmaskable:   0, while masked: 0\n>\n> TIMERS\n>   fast: {ticks}, slow: {ticks // 10}\n"
        f">\n> COMMANDS PROCESSED\n>  udp: {counters.udp}, tcp: {counters.tcp}, uart: {counters.uart}\n"
    )
    if fw.era is Era.NEWEST:
        text += (
            f">  timeouts: 0, checksum errors: {counters.checksum_errors}, duplicates: {counters.duplicates}\n"
            ">  ip receive buffer overflows: 0, send buffer overflows: 0, incomplete packets: 0, too many segments: 0,"
            " invalid length: 0\n>  uart receive overflows: 0, uart send overflows: 0\n"
        )
    writes = fw.store.writes
    return text + f">\n> CONFIG\n>  read requests: 0\n>  loads: 1\n>  write requests: {writes}, succeeded: {writes}\n"


def stats_wlan(fw: Firmware, _line: Line, _now: float) -> str:
    """`sw`: WLAN state, with the key in clear text."""
    ssid = fw.store.get("wlan.client.ssid") or ""
    password = fw.store.get("wlan.client.passwd") or ""
    if fw.era is Era.NEWEST:
        head = (
            f'> current wlan state: associated for 60 sec\n> ssid in flash: "{ssid}", passwd: "{password}"\n'
            f'> ssid active: "{ssid}", passwd: "{password}"\n> channel: 6\n> phy mode: 802.11n\n> sleep mode: none\n'
        )
    else:
        head = (
            f'> default ssid: "{ssid}", passwd: "{password}"\n> current ssid: "{ssid}", passwd: "{password}"\n'
            "> autoconnect: on\n> phy mode: 802.11n\n> sleep mode: none\n> channel: 6\n"
        )
    return head + "> signal strength: -55 dB\n>\n> station mac address: 02:00:00:a1:b2:c3\n"


def stats_uart(_fw: Firmware, _line: Line, _now: float) -> str:
    """`su`: UART counters."""
    posted = f"posted: {0:4d}, max: {0:4d}, skipped: {0:4d}"
    row = f"rx: {0:8d}, tx: {0:8d}, RX {posted}, TX {posted}"
    return "> * spurious interrupts: 0\n" + "".join(f"> {uart} {row}\n" for uart in (0, 1))


def stats_flash(fw: Firmware, _line: Line, _now: float) -> str:
    """`sf`: flash layout."""
    size = "4096 kib / 4 MiB" if fw.era is Era.NEWEST else "1024 kib / 1 MiB"
    return (
        f"> spi flash id: 001640c8, manufacturer: GigaDevice, speed: 40 MHz, size: {size}\n>\n"
        "> flash partition table:\n>   map: 4M\n"
    )


def stats_lwip(fw: Firmware, _line: Line, _now: float) -> str:
    """`sl`: network counters."""
    return (
        f"> LWIP\n>  tcp received packets: {fw.counters.tcp:6d}, bytes: 0\n"
        f">  udp received packets: {fw.counters.udp:6d}, bytes: 0\n"
        f">  tcp locked buffer dropped: {fw.counters.dropped_busy}\n"
    )


def stats_i2c(_fw: Firmware, _line: Line, _now: float) -> str:
    """`si`: I2C counters."""
    return "> i2c sda stucks: 0\n> i2c bus locks: 0\n> i2c multiplexer found: no\n> i2c buses: 1\n"


# -- log --------------------------------------------------------------------------------------------


def log_display(fw: Firmware, _line: Line, _now: float) -> str:
    """`l`: the log."""
    return fw.log or "<log empty>\n"


def log_clear(fw: Firmware, line: Line, now: float) -> str:
    """`lc`: the log, which is empty then."""
    text = log_display(fw, line, now)
    fw.log = ""
    return text


def log_write(fw: Firmware, line: Line, _now: float) -> str:
    """`lw`: a line into the log."""
    text = line.rest(1)
    if text is not None:
        fw.write_log(text[:63] + "\n")
    return "log write ok\n"


# -- sequencer --------------------------------------------------------------------------------------


def sequencer_clear(fw: Firmware, _line: Line, _now: float) -> str:
    """`sec`: formats the sequencer's flash area."""
    if fw.era is Era.OLD:
        return "> sequencer-clear: failed\n"  # broken from April to September 2019
    fw.sequencer.clear()
    return "> sequencer-clear: ok\n"


def sequencer_add(fw: Firmware, line: Line, _now: float) -> str:
    """`sea`: sets an entry."""
    start, io, pin, value, duration = line.sint(1), line.sint(2), line.sint(3), line.uint(4), line.uint(5)
    if start is None or io is None or pin is None or value is None or duration is None:
        return "> usage: sequencer-set index io pin value duration_ms\n"
    index = fw.sequencer_next if start < 0 else start
    fw.sequencer_next = index
    if not fw.sequencer.set(index, Step(io, pin, value, duration)):
        return "> sequencer-set: error setting entry (set)\n"
    fw.sequencer_next = index + 1
    step = fw.sequencer.get(index)
    if step is None:
        return "> sequencer-set: error setting entry (get)\n"
    return f"> sequencer-set: {index}: {step.io}/{step.pin} {step.value} {step.duration} ms on\n"


def sequencer_remove(fw: Firmware, line: Line, _now: float) -> str:
    """`ser`: removes an entry."""
    index = line.uint(1)
    if index is None:
        return "> usage: sequencer-remove index\n"
    removed = fw.sequencer.set(index, Step(0, 0, 0, 0, active=False))
    return f"sequencer-remove: {'ok' if removed else 'failed'}\n"


def _step_row(index: int, step: Step) -> str:
    state = "on" if step.active else "off"
    return f"> {index:5d} {step.io:2d} {step.pin:3d} {step.value:5d}       {step.duration:5d} {state}\n"


def sequencer_list(fw: Firmware, line: Line, _now: float) -> str:
    """`sel`: up to 20 entries."""
    index = line.uint(1)
    if index is not None:
        fw.sequencer_listed = index
    rows = ["> index io pin value duration_ms\n"]
    for _ in range(20):
        step = fw.sequencer.get(fw.sequencer_listed)
        if step is None:
            break
        rows.append(_step_row(fw.sequencer_listed, step))
        fw.sequencer_listed += 1
    return "".join(rows)


def sequencer_start(fw: Firmware, line: Line, now: float) -> str:
    """`ses`: plays; says so also when nothing will be played."""
    start, repeats = line.uint(1), line.uint(2)
    if start is None or repeats is None:
        return "> usage: sequencer-play start_entry repeats\n"
    fw.sequencer.start(start, repeats, now)
    return f"> sequencer started: {start},{repeats} ok\n"


def sequencer_stop(fw: Firmware, _line: Line, _now: float) -> str:
    """`set`: stops, and leaves the pins as they are."""
    fw.sequencer.stop()
    return "> sequencer stopped\n"


def stats_sequencer(fw: Firmware, _line: Line, now: float) -> str:
    """`ss`: state of the sequencer."""
    sequencer = fw.sequencer
    running = sequencer.repeats > 0
    text = (
        f"> sequencer\n>\n> running: {'yes' if running else 'no'}\n> total flash size available: {FLASH_SIZE}\n"
        f"> total entries in flash available: {ENTRY_COUNT + 1}\n"
    )
    if running:
        left = max(int(((sequencer.due or now) - now) * 1000), 0)
        text += (
            f"> starting from entry: {sequencer.begin}\n> repeats left: {sequencer.repeats - 1}\n"
            f"> remaining duration from current entry: {left}\n"
        )
    return text


# -- raw UART, HTTP ---------------------------------------------------------------------------------


def uart_write(fw: Firmware, line: Line, _now: float) -> str:
    """`uw`: text to the UART."""
    uart, text = line.uint(1), line.rest(2)
    if uart is None or text is None:
        return "> usage: uart-write <uart id> <text>\n"
    if uart > 1:
        return "> uart-write: uart should be 0 or 1\n"
    if uart == 0:
        fw.uart_send(text.encode("latin-1"))
    return "> uart-write ok\n"


def http_get(fw: Firmware, line: Line, now: float) -> str:
    """The two pages that do something; no login either."""
    path = line.word(1) or ""
    match = _HTTP_SET.match(path)
    body = "<html><body>universal i/o bridge</body></html>"
    if match is not None:
        io, pin, value = (int(group) for group in match.groups())
        if io == 0 and pin < len(fw.pins.pins):
            try:
                fw.pins.write(fw.pins.pins[pin], value, now)
                body = "OK"
            except PinError as error:
                body = str(error)
    return f"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\nConnection: close\r\n\r\n{body}\r\n"


_ALL: Final = frozenset(Era)
_NEW: Final = frozenset({Era.NEWEST})
_LATER: Final = frozenset({Era.NEWEST, Era.MIDDLE})
COMMANDS: Final[tuple[tuple[tuple[str, str], Handler, frozenset[Era]], ...]] = (
    (("?", "help"), help_text, _ALL),
    (("q", "quit"), quit_session, _ALL),
    (("r", "reset"), reset, _ALL),
    (("s", "stats"), stats, _ALL),
    (("sf", "stats-flash"), stats_flash, _LATER),
    (("sc", "stats-counters"), stats_counters, _ALL),
    (("sl", "stats-lwip"), stats_lwip, _NEW),
    (("si", "stats-i2c"), stats_i2c, _ALL),
    (("ss", "stats-sequencer"), stats_sequencer, _ALL),
    (("st", "stats-time"), stats_time, _ALL),
    (("sw", "stats-wlan"), stats_wlan, _ALL),
    (("su", "stats-uart"), stats_uart, _NEW),
    (("l", "log-display"), log_display, _ALL),
    (("lc", "log-clear"), log_clear, _ALL),
    (("lw", "log-write"), log_write, _LATER),
    (("sea", "sequencer-add"), sequencer_add, _ALL),
    (("sec", "sequencer-clear"), sequencer_clear, _ALL),
    (("sel", "sequencer-list"), sequencer_list, _ALL),
    (("ser", "sequencer-remove"), sequencer_remove, _ALL),
    (("ses", "sequencery-start"), sequencer_start, _ALL),
    (("set", "sequencery-stop"), sequencer_stop, _ALL),
    (("uw", "uart-write"), uart_write, _ALL),
    (("GET", "http-get"), http_get, _ALL),
)
