"""Commands about stored settings: the store itself, flags, ports, UART, WLAN, triggers (reference section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .eras import TRAITS, Era
from .store import StoreError, fill
from .text import Line

if TYPE_CHECKING:
    from .firmware import Firmware, Handler, Outcome

CANNOT_DELETE: Final = "> cannot delete config (default values)\n"
CANNOT_SET: Final = "> cannot set config\n"
SET_USAGE: Final = "usage: config-set <variable name pattern> <index1> <index2> <value>\n"
PARITIES: Final = ("none", "even", "odd")
WLAN_CLIENT, WLAN_AP = 0, 1
MIN_PASSWORD: Final = 8
MAX_CHANNEL: Final = 13
MAX_PORT: Final = 65535


# -- the store --------------------------------------------------------------------------------------


def config_dump(fw: Firmware, _line: Line, _now: float) -> str:
    """`cd`: lists the store."""
    lines = []
    for key, value in fw.store.entries:
        text = f"{key}={value}"
        if fw.era is not Era.NEWEST:
            text += _numbers(value)
        lines.append(text + "\n")
    return "".join(lines) + f"\ntotal config entries: {len(fw.store.entries)}, flags: {fw.flags:04x}\n"


def _numbers(value: str) -> str:
    """What 2019 and 2021 append to a value that begins like a number."""
    line = Line(value.encode("latin-1"), strict=False)
    signed, unsigned = line.sint(0), line.uint(0)
    if signed is None or unsigned is None:
        return ""
    return f" ({signed}/{unsigned}/{'0' if unsigned == 0 else f'{unsigned:#x}'})"


def _indexes(line: Line) -> tuple[int, int]:
    index1 = line.sint(2)
    if index1 is None:
        return -1, -1
    index2 = line.sint(3)
    return index1, -1 if index2 is None else index2


def query_string(fw: Firmware, line: Line, _now: float) -> str:
    """`cqs`: one entry as text."""
    name = line.word(1)
    if name is None:
        return "missing variable name\n"
    value = fw.store.get(fill(name, *_indexes(line)))
    return "ERROR\n" if value is None else f"{name}={value} OK\n"


def query_int(fw: Firmware, line: Line, _now: float) -> str:
    """`cqi`: one entry as a number; without a name it answers nothing at all."""
    name = line.word(1)
    if name is None:
        return ""  # really: not one byte
    value = fw.store.get_uint(fill(name, *_indexes(line)))
    return "ERROR\n" if value is None else f"{name}={value} OK\n"


def config_set(fw: Firmware, line: Line, _now: float) -> str:
    """`cs`: writes one entry; running settings change at the next boot."""
    name, index1, index2, value = line.word(1), line.sint(2), line.sint(3), line.rest(4)
    if name is None or index1 is None or index2 is None or value is None:
        return SET_USAGE
    try:
        fw.store.commit(put={fill(name, index1, index2): value})
    except StoreError as error:
        return f"config set failure ({error})\n"
    return "OK\n"


def config_delete(fw: Firmware, line: Line, _now: float) -> str:
    """`cde`: deletes an entry, or all that begin with a name."""
    name = line.word(1)
    if name is None:
        return "missing variable name\n"
    index1, index2 = line.sint(2), line.sint(3)
    key = fill(name, -1 if index1 is None else index1, -1 if index2 is None else index2)
    wildcard = bool(line.uint(4) or 0)
    try:
        deleted = fw.store.commit(prefix=key, put=None) if wildcard else fw.store.commit(delete=key, put=None)
    except StoreError:
        return "config-delete: config open failure\n"
    return f"{deleted} config entries deleted\n"


def identification(fw: Firmware, line: Line, _now: float) -> str:
    """`id`: shows or sets the identification text."""
    text = line.rest(1)
    if text is not None:
        try:
            fw.store.commit(put={"identification": text})
        except StoreError:
            return "> cannot set identification\n"
    return f'identification is "{fw.store.get("identification") or "<unset>"}"\n'


# -- device flags -----------------------------------------------------------------------------------


def _flags(fw: Firmware, line: Line, *, on: bool) -> str:
    known = TRAITS[fw.era].device_flags
    word = line.word(1)
    if word is not None:
        bit = known.get(word)
        if bit is None:
            return f"{word}: unknown flag\n"
        fw.flags = fw.flags | bit if on else fw.flags & ~bit
        try:
            fw.store.commit(put={"flags": fw.flags})
        except StoreError:
            return f"{word}: unknown flag\n"  # the firmware does not tell the two apart
    return "> flags:\n>\n" + "".join(
        f">    {'   ' if fw.flags & bit else 'no '}{name}\n" for name, bit in known.items()
    )


def flag_set(fw: Firmware, line: Line, _now: float) -> str:
    """`fs`: sets a device flag, or lists them."""
    return _flags(fw, line, on=True)


def flag_unset(fw: Firmware, line: Line, _now: float) -> str:
    """`fu`: clears a device flag, or lists them."""
    return _flags(fw, line, on=False)


# -- ports and UART ---------------------------------------------------------------------------------


def _store_or_default(fw: Firmware, key: str, value: int, default: int, cannot_delete: str) -> str | None:
    """Stores a setting, or deletes it when it is the default; returns the error text, if any."""
    try:
        if value != default:
            fw.store.commit(put={key: value})
        elif not fw.store.commit(delete=key, put=None):
            return cannot_delete
    except StoreError:
        return CANNOT_SET
    return None


def _port(fw: Firmware, line: Line, key: str, default: int) -> str:
    port = line.uint(1)
    if port is not None:
        if port > MAX_PORT:
            return f"> invalid port {port}\n"
        if error := _store_or_default(fw, key, port, default, CANNOT_DELETE):
            return error
    stored = fw.store.get_uint(key)
    return f"> port: {default if stored is None else stored}\n"


def bridge_port(fw: Firmware, line: Line, _now: float) -> str:
    """`bp`: the console bridge's port, from the next boot on."""
    return _port(fw, line, "bridge.port", 0)


def command_port(fw: Firmware, line: Line, _now: float) -> str:
    """`cp`: the command port, from the next boot on."""
    return _port(fw, line, "cmd.port", 24)


def _uart(line: Line) -> int | None:
    uart = line.uint(1)
    return uart if uart in {0, 1} else None


def uart_baud(fw: Firmware, line: Line, _now: float) -> str:
    """`ub`: baud rate."""
    uart = _uart(line)
    if uart is None:
        return "> usage uart-baudrate <uart [0|1]> <baud rate>\n"
    baud = line.uint(2)
    if baud is not None:
        if error := _store_or_default(fw, f"uart.baud.{uart}", baud, 115200, CANNOT_DELETE):
            return error
        fw.uarts[uart].baud = baud
        fw.uart_flushed()
    return f"> baudrate[{uart}]: {_stored(fw, f'uart.baud.{uart}', 115200)}\n"


def uart_data_bits(fw: Firmware, line: Line, _now: float) -> str:
    """`ud`: data bits."""
    uart = _uart(line)
    if uart is None:
        return "> usage uart-data-bits <uart [0|1]> <data bits>\n"
    bits = line.uint(2)
    if bits is not None:
        if not 5 <= bits <= 8:
            return f"> invalid data bits: {bits}\n"
        if error := _store_or_default(fw, f"uart.data.{uart}", bits, 8, CANNOT_SET):
            return error
        fw.uarts[uart].data_bits = bits
        fw.uart_flushed()
    return f"data bits[{uart}]: {_stored(fw, f'uart.data.{uart}', 8)}\n"


def uart_stop_bits(fw: Firmware, line: Line, _now: float) -> str:
    """`us`: stop bits."""
    uart = _uart(line)
    if uart is None:
        return "> usage uart-stop-bits <uart [1|2]> <stop bits>\n"
    bits = line.uint(2)
    if bits is not None:
        if not 1 <= bits <= 2:
            return f"> stop bits out of range: {bits}\n"
        if error := _store_or_default(fw, f"uart.stop.{uart}", bits, 1, CANNOT_DELETE):
            return error
        fw.uarts[uart].stop_bits = bits
        fw.uart_flushed()
    return f"> stop bits[{uart}]: {_stored(fw, f'uart.stop.{uart}', 1)}\n"


def uart_parity(fw: Firmware, line: Line, _now: float) -> str:
    """`up`: parity."""
    uart = _uart(line)
    if uart is None:
        return "> usage uart-parity <uart [0|1]> <parity>\n"
    word = line.word(2)
    if word is not None:
        if word not in PARITIES:
            return f"{word}: invalid parity\n"
        parity = PARITIES.index(word)
        if error := _store_or_default(fw, f"uart.parity.{uart}", parity, 0, CANNOT_SET):
            return word + error  # the word is still in the reply's buffer
        fw.uarts[uart].parity = parity
        fw.uart_flushed()
    stored = _stored(fw, f"uart.parity.{uart}", 0)
    return f"parity[{uart}]: {PARITIES[stored] if stored < len(PARITIES) else 'error'}\n"


def _stored(fw: Firmware, key: str, default: int) -> int:
    value = fw.store.get_uint(key)
    return default if value is None else value


# -- WLAN -------------------------------------------------------------------------------------------


def wlan_mode(fw: Firmware, line: Line, _now: float) -> str | Outcome:
    """`wm`: shows or changes the WLAN mode; a change restarts the link."""
    from .firmware import Action, Outcome

    word = line.word(1)
    if word is None:
        stored = fw.store.get_uint("wlan.mode")
        text = {None: "mode unset", WLAN_CLIENT: "client mode", WLAN_AP: "ap mode"}.get(stored, "unknown mode")
        return f"> current mode: {text}\n"
    if word not in {"client", "ap"}:
        return f"{word}: invalid wlan mode\n"
    try:
        fw.store.commit(put={"wlan.mode": WLAN_AP if word == "ap" else WLAN_CLIENT})
    except StoreError:
        return CANNOT_SET
    return Outcome(b"> disconnect\n", Action.WLAN_RESTART)


def wlan_client(fw: Firmware, line: Line, _now: float) -> str:
    """`wcc`: network name and key, in clear text."""
    ssid, password = line.word(1), line.word(2)
    if ssid is not None and password is not None:
        if len(password) < MIN_PASSWORD:
            return f'> passwd "{password}" too short (length must be >= 8)\n'
        try:
            fw.store.commit(put={"wlan.client.ssid": ssid, "wlan.client.passwd": password})
        except StoreError:
            return "> cannot set config (open)\n"
    return f'> ssid: "{_text(fw, "wlan.client.ssid")}", passwd: "{_text(fw, "wlan.client.passwd")}"\n'


def wlan_ap(fw: Firmware, line: Line, _now: float) -> str:
    """`wac`: the own access point's settings."""
    ssid, password, channel = line.word(1), line.word(2), line.uint(3)
    if ssid is not None and password is not None and channel is not None:
        if not 1 <= channel <= MAX_CHANNEL:
            return f"> channel {channel} out of range (1-13)\n"
        if len(password) < MIN_PASSWORD:
            return f'> passwd "{password}" too short (length must be >= 8)\n'
        try:
            fw.store.commit(put={"wlan.ap.ssid": ssid, "wlan.ap.passwd": password, "wlan.ap.channel": channel})
        except StoreError:
            return "> cannot set config (open)\n"
    return (
        f'> ssid: "{_text(fw, "wlan.ap.ssid")}", passwd: "{_text(fw, "wlan.ap.passwd")}",'
        f" channel: {_stored(fw, 'wlan.ap.channel', 0)}\n"
    )


def _text(fw: Firmware, key: str) -> str:
    value = fw.store.get(key)
    return "<empty>" if value is None else value


# -- trigger associations ---------------------------------------------------------------------------


def _trigger(fw: Firmware, line: Line, key: str, what: str, bad: str) -> str:
    io, pin = line.sint(1), line.sint(2)
    names = f"trigger.{key}.io", f"trigger.{key}.pin"
    if io is not None and pin is not None:
        if io < -1 or io > len(TRAITS[fw.era].ios):
            return f"{bad} trigger io {io}/{pin} invalid\n"
        try:
            if io < 0 or pin < 0:
                if not (fw.store.commit(delete=names[0], put=None) and fw.store.commit(delete=names[1], put=None)):
                    return CANNOT_DELETE
            else:
                fw.store.commit(put={names[0]: io, names[1]: pin})
        except StoreError:
            return "> cannot set config (open)\n"
    return f"{what} trigger at io {_signed(fw, names[0])}/{_signed(fw, names[1])} (-1 is disabled)\n"


def _signed(fw: Firmware, key: str) -> int:
    value = fw.store.get_int(key)
    return -1 if value is None else value


def status_trigger(fw: Firmware, line: Line, _now: float) -> str:
    """`gss`: pin that is triggered by every command."""
    return _trigger(fw, line, "status", "status", "status")


def assoc_trigger(fw: Firmware, line: Line, _now: float) -> str:
    """`gas`: pin that is triggered when the WLAN comes up."""
    return _trigger(fw, line, "assoc", "wlan association", "association")


_ALL: Final = frozenset(Era)
COMMANDS: Final[tuple[tuple[tuple[str, str], Handler, frozenset[Era]], ...]] = (
    (("cd", "config-dump"), config_dump, _ALL),
    (("cqs", "config-query-string"), query_string, _ALL),
    (("cqi", "config-query-int"), query_int, _ALL),
    (("cs", "config-set"), config_set, _ALL),
    (("cde", "config-delete"), config_delete, _ALL),
    (("id", "identification"), identification, _ALL),
    (("fs", "flag-set"), flag_set, _ALL),
    (("fu", "flag-unset"), flag_unset, _ALL),
    (("bp", "bridge-port"), bridge_port, _ALL),
    (("cp", "command-port"), command_port, _ALL),
    (("ub", "uart-baud"), uart_baud, _ALL),
    (("ud", "uart-data"), uart_data_bits, _ALL),
    (("us", "uart-stop"), uart_stop_bits, _ALL),
    (("up", "uart-parity"), uart_parity, _ALL),
    (("wm", "wlan-mode"), wlan_mode, _ALL),
    (("wcc", "wlan-client-configure"), wlan_client, _ALL),
    (("wac", "wlan-ap-configure"), wlan_ap, _ALL),
    (("gss", "gpio-status-set"), status_trigger, _ALL),
    (("gas", "gpio-association-set"), assoc_trigger, _ALL),
)
