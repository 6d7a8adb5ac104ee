"""Replies byte for byte: the tables and transcripts of the reference, sections 2 to 7."""

from __future__ import annotations

import re

import pytest
from pypmi_simulator.eras import Era
from pypmi_simulator.firmware import Action

OLD, MIDDLE, NEWEST = Era.OLD, Era.MIDDLE, Era.NEWEST
ALL = (OLD, MIDDLE, NEWEST)
LATER = (MIDDLE, NEWEST)
USAGE = "usage: io-trigger <io> <pin> <action>\n    action: none, off, on, down, up, toggle, stop, start"
PIN0_TIMER = "  pin:  0, mode: timer (blink)        [hw: digital output] flags: "


def cases(*rows: tuple[tuple[Era, ...], str, str]) -> list:
    return [pytest.param(era, text, reply, id=f"{era.value}-{text}") for eras, text, reply in rows for era in eras]


# Section 7, after provisioning; `delay: 480 ms` is 20 ms after the trigger.
TRANSCRIPT = {
    NEWEST: [
        ("id", 'identification is "pc1"\n'),
        ("ir 0 2", "digital input: [1]\n"),
        ("ir 0 0", "timer (blink): [0]\n"),
        ("it 0 0 on", "trigger on 0/0: ok\n"),
        (
            "im 0 0",
            "* io[0]: Internal GPIO@00\n"
            + PIN0_TIMER
            + "[invert], config direction: down, speed: 500 ms, current direction: down, delay: 480 ms, state: on, "
            "max value: 1, info: \n",
        ),
        ("it 0 0 off", "trigger off 0/0: ok\n"),
        ("it 0 0", USAGE),
        ("nope", "nope: command unknown\n"),
        ("q", "> disconnect\n"),
    ],
    OLD: [
        ("", "> empty command\n"),
        ("su", "su: command unknown\n"),
        ("ir 0 2", "digital input: [1]\n"),
        ("ir 0 0", "timer (blink): [1]\n"),
        ("it 0 0 on", "trigger on 0/0: ok\n"),
        (
            "im 0 0",
            "io[0]: Internal GPIO@00\n"
            + PIN0_TIMER
            + "[], config direction: up, speed: 500 ms, current direction: up, delay: 480 ms, state: off, "
            "max value: 1, info: \n",
        ),
        ("ir 0 5", "disabled: cannot read from this pin\n"),
        ("ism 0 1 1", "set mask operation not supported on this ioerror\n"),
        ("q", "> disconnect\n"),
    ],
}


@pytest.mark.parametrize("era", TRANSCRIPT)
def test_transcript_of_section_7(ready, era):
    device = ready(era)
    for text, reply in TRANSCRIPT[era]:
        assert device(text) == reply
        if text == "it 0 0 on":
            device.wait(0.020)


def test_newest_su_begins_as_in_the_transcript(ready):
    assert ready(NEWEST)("su").startswith("> * spurious interrupts: 0\n> 0 rx: ")


SESSION = cases(
    (ALL, "", "> empty command\n"),
    (ALL, "foo", "foo: command unknown\n"),
    (ALL, "quit", "> disconnect\n"),
    (ALL, "r", "> reset\n"),
    (ALL, "reset", "> reset\n"),
    *((ALL, word, f"{word}: command unknown\n") for word in ("S", "gs", "gpio-set", "cw")),
    (LATER, "wm client", "> disconnect\n"),
    (ALL, "wm ap", "> disconnect\n"),
    (ALL, "wm foo", "foo: invalid wlan mode\n"),
    (ALL, "wm", "> current mode: mode unset\n"),
    ((OLD, MIDDLE), "su", "su: command unknown\n"),
    ((OLD,), "sf", "sf: command unknown\n"),
    ((OLD,), "lw x", "lw: command unknown\n"),
    (LATER, "lw x", "log write ok\n"),
    (ALL, "l", "<log empty>\n"),
    ((OLD, MIDDLE), "ios 0 0", "ios: command unknown\n"),
    (ALL, "isf 0 0 foo", "io-flag <io> <pin> <flag>\n"),
    (ALL, "IR 0 2", "IR: command unknown\n"),
    (ALL, "io-read 0 2", "digital input: [1]\n"),
)

STORE = cases(
    (ALL, "cqs identification -1 -1", "identification=pc1 OK\n"),
    (ALL, "cqs nothing -1 -1", "ERROR\n"),
    (ALL, "cqs", "missing variable name\n"),
    (ALL, "cqi bridge.port -1 -1", "bridge.port=23 OK\n"),
    (ALL, "cqi identification -1 -1", "ERROR\n"),
    (ALL, "cqi", ""),
    (ALL, "cs", "usage: config-set <variable name pattern> <index1> <index2> <value>\n"),
    (ALL, "cs a -1 -1", "usage: config-set <variable name pattern> <index1> <index2> <value>\n"),
    (ALL, "cs a -1 -1 b c", "OK\n"),
    (ALL, "cde bridge.port -1 -1 0", "1 config entries deleted\n"),
    (ALL, "cde nothing -1 -1 0", "0 config entries deleted\n"),
    (ALL, "cde", "missing variable name\n"),
    (ALL, "cde io.%u.%u. 0 2 1", "2 config entries deleted\n"),
)

SETTINGS = cases(
    (ALL, "bp", "> port: 23\n"),
    (ALL, "bp 70000", "> invalid port 70000\n"),
    (ALL, "bp 4000", "> port: 4000\n"),
    (ALL, "bp 0", "> port: 0\n"),
    (ALL, "cp", "> port: 24\n"),
    (ALL, "cp 24", "> cannot delete config (default values)\n"),
    (ALL, "cp 70000", "> invalid port 70000\n"),
    (ALL, "ub 0", "> baudrate[0]: 115200\n"),
    (ALL, "ub 0 38400", "> baudrate[0]: 38400\n"),
    (ALL, "ub 0 x", "> baudrate[0]: 115200\n"),
    (ALL, "ub", "> usage uart-baudrate <uart [0|1]> <baud rate>\n"),
    (ALL, "ub 2", "> usage uart-baudrate <uart [0|1]> <baud rate>\n"),
    (ALL, "ub 0 115200", "> cannot delete config (default values)\n"),
    (LATER, "ub 0 0", "> baudrate[0]: 0\n"),
    (ALL, "ud 0", "data bits[0]: 8\n"),
    (ALL, "ud 0 7", "data bits[0]: 7\n"),
    (ALL, "ud 0 9", "> invalid data bits: 9\n"),
    (ALL, "ud 0 8", "> cannot set config\n"),
    (ALL, "us 0", "> stop bits[0]: 1\n"),
    (ALL, "us 0 2", "> stop bits[0]: 2\n"),
    (ALL, "us 0 3", "> stop bits out of range: 3\n"),
    (ALL, "us 0 1", "> cannot delete config (default values)\n"),
    (ALL, "up 0", "parity[0]: none\n"),
    (ALL, "up 0 even", "parity[0]: even\n"),
    (ALL, "up 0 odd", "parity[0]: odd\n"),
    (ALL, "up 0 foo", "foo: invalid parity\n"),
    (ALL, "up 0 none", "none> cannot set config\n"),
    (ALL, "fs nope", "nope: unknown flag\n"),
    (ALL, "fu nope", "nope: unknown flag\n"),
    (ALL, "wcc", '> ssid: "<empty>", passwd: "<empty>"\n'),
    (ALL, "wcc lab secretsecret", '> ssid: "lab", passwd: "secretsecret"\n'),
    (ALL, "wcc lab short", '> passwd "short" too short (length must be >= 8)\n'),
    (ALL, "wac esp secretsecret 1", '> ssid: "esp", passwd: "secretsecret", channel: 1\n'),
)

PINS = cases(
    (ALL, "ir 0 2", "digital input: [1]\n"),
    (ALL, "ir 0 1", "uart: [0]\n"),
    ((NEWEST,), "ir 0 5", "disabled: cannot read from gpio 5\n\n"),
    ((OLD, MIDDLE), "ir 0 5", "disabled: cannot read from this pin\n"),
    (ALL, "ir", "io-read: <io> <pin>\n"),
    (ALL, "ir 0", "get: <io> <pin>\n"),
    (ALL, "ir 0 99", "io pin out of range\n"),
    (ALL, "ir 99 0", "invalid io 99\n"),
    (LATER, "ir 2 0", "disabled: io not available\n"),
    ((OLD,), "ir 2 0", "disabled: cannot read from this pin\n"),
    (ALL, "iw 0 2 1", "digital input: cannot write to gpio 2\n\n"),
    ((NEWEST,), "iw 0 5 1", "disabled: cannot write to gpio 5\n\n"),
    ((OLD, MIDDLE), "iw 0 5 1", "disabled: cannot write to this pin\n"),
    (ALL, "iw", "io-write <io> <pin> <value>\n"),
    (ALL, "iw 0", "io-write <io> <pin> <value>\n"),
    (ALL, "iw 0 99 1", "invalid pin\n"),
    (ALL, "iw 99 0 1", "invalid io 99\n"),
    (LATER, "iw 2 0 1", "disabled: io not available\n\n"),
    ((OLD,), "iw 2 0 1", "disabled: cannot write to this pin\n"),
    (ALL, "it 0 0 up", "trigger up 0/0: invalid trigger type\n"),
    (ALL, "it 0 0 down", "trigger down 0/0: invalid trigger type\n"),
    (ALL, "it 0 0 toggle", "trigger toggle 0/0: invalid trigger type\n"),
    (ALL, "it 0 0 none", "trigger none 0/0: invalid trigger type\n"),
    (ALL, "it 0 0 start", "trigger start 0/0: ok\n"),
    (ALL, "it 0 2 on", "trigger on 0/2: cannot trigger this pin\n"),
    (ALL, "it 99 0 on", "invalid io 99\n"),
    (ALL, "it 0 99 on", "invalid pin\n"),
    *((ALL, text, USAGE) for text in ("it", "it 0", "it 0 0", "it 0 0 press", "it x 0 on", "it 0 0 ON")),
    (ALL, "im 99 0", "invalid io 99\n"),
    (ALL, "im 2 0", "io 2 not detected\n"),
    (ALL, "im 0 99", "io pin out of range\n"),
    (
        (OLD,),
        "im 0 0 foo",
        (
            "invalid mode, available modes: disabled/dinput/counter/doutput/timer/ainput/pwm/i2c/uart/lcd/trigger/"
            "ledpixel/cfa634/pwm2/renc\n"
        ),
    ),
    (
        (MIDDLE,),
        "im 0 0 foo",
        (
            "invalid mode, available modes: disabled/dinput/counter/doutput/timer/ainput/pwm/i2c/uart/lcd/trigger/"
            "ledpixel/cfa634/pwm2/renc/spi\n"
        ),
    ),
    (
        (NEWEST,),
        "im 0 0 foo",
        (
            "invalid mode, available modes: disabled/dinput/counter/doutput/timer/ainput/pwm/i2c/uart/lcd/trigger/"
            "ledpixel/cfa634/pwm2/renc/spi/pcint\n"
        ),
    ),
    (ALL, "im 0 0 timer", "timer: <direction>:up/down <speed>:ms\n"),
    (ALL, "im 0 0 timer up", "timer: <direction>:up/down <speed>:ms\n"),
    (ALL, "im 0 0 timer foo 500", "foo: timer direction invalid\n"),
    (ALL, "im 0 0 timer up 99", "timer: speed too small: must be >= 100 ms\n"),
    (ALL, "im 0 0 uart", "gpio pin 0 cannot be used for uart\n"),
    (ALL, "im 0 0 ainput", "analog input mode invalid for this io\n"),
    (ALL, "im 0 0 disabled", "pin 0 disabled\n"),
    (LATER, "ism 0 1 1", "ok\n"),
    ((OLD,), "ism 0 1 1", "set mask operation not supported on this ioerror\n"),
    ((NEWEST,), "ios 0 0", "i/o 0/0 suspended\n"),
    ((NEWEST,), "ior 0 0", "i/o 0/0 resumed\n"),
    (LATER, "isf 0 0 invert", "flags for pin 0/0:invert\n"),
    ((OLD,), "isf 0 0 invert", "io-flag <io> <pin> <flag>\n"),
    (LATER, "icf 0 0 invert", "flags for pin 0/0:\n"),
    (LATER, "isf 0 0 repeat", "flags for pin 0/0:repeat invert\n"),
    (ALL, "isf 0", "io-flag <io> <pin> <flag>\n"),
    (ALL, "isf 0 5 repeat", "cannot enable this flag\n"),
    (ALL, "isf 0 99 repeat", "invalid pin\n"),
    (ALL, "isf 99 0 repeat", "invalid io 99\n"),
    (ALL, "isf 1 0 pullup", "io does not support pullup\n"),
)

SEQUENCER = cases(
    ((OLD,), "sec", "> sequencer-clear: failed\n"),
    (LATER, "sec", "> sequencer-clear: ok\n"),
    (ALL, "sea 0 0 0 1 500", "> sequencer-set: error setting entry (set)\n"),
    (ALL, "sea", "> usage: sequencer-set index io pin value duration_ms\n"),
    (ALL, "ser 1", "sequencer-remove: failed\n"),
    (ALL, "ses 0 1", "> sequencer started: 0,1 ok\n"),
    (ALL, "set", "> sequencer stopped\n"),
    (ALL, "sel", "> index io pin value duration_ms\n"),
)


@pytest.mark.parametrize(("era", "text", "reply"), [*SESSION, *STORE, *SETTINGS, *PINS, *SEQUENCER])
def test_reply(ready, era, text, reply):
    assert ready(era)(text) == reply


@pytest.mark.parametrize("era", ALL)
def test_first_line_of_s_and_reset_cause(ready, era):
    device = ready(era)
    text = device("s")
    if era is OLD:
        assert text.startswith("> firmware version date: ")
        assert "> reset cause: power on, exception: 0, " in text
    else:
        assert text.startswith("> firmware\n")
        assert ">   reset cause: power on reset\n" in text
    device.reboot("user reset")
    assert "reset cause: user reset" in device("s")


@pytest.mark.parametrize(("era", "pattern"), [
    (NEWEST, r"> uptime   0 00:00:01\.600 "),
    (MIDDLE, r"> uptime:  0 00:00:01\.600 \(r1="),
    (OLD, r"> uptime:  0 00:00:01\.600 \(r1="),
])  # fmt: skip
def test_st_shows_the_uptime(ready, era, pattern):
    device = ready(era)
    device.wait(1.6000001)
    assert re.search("^" + pattern, device("st"), re.MULTILINE)


@pytest.mark.parametrize("era", ALL)
def test_sc_counts_commands(ready, era):
    device = ready(era)
    device.firmware.counters.tcp = 7
    assert re.search(r"> COMMANDS PROCESSED\n> +udp: 0, tcp: 7, uart: 0\n", device("sc"))


@pytest.mark.parametrize("era", ALL)
def test_sw_has_signal_strength_and_the_key(ready, era):
    device = ready(era)
    device("wcc lab secretsecret")
    assert "signal strength: -55 dB" in device("sw")
    assert "secretsecret" in device("sw")


@pytest.mark.parametrize("era", LATER)
def test_the_log(ready, era):
    device = ready(era)
    assert device("lw hello you") == "log write ok\n"
    assert device("l") == "hello you\n"
    assert device("lc") == "hello you\n"
    assert device("l") == "<log empty>\n"


def test_help(ready):
    assert re.match(r"> \?/help: .*\n", ready(OLD)("?").split("\n> q/")[0] + "\n") or "> ir/io-read: " in ready(OLD)(
        "?"
    )
    assert "> ir/io-read: " in ready(MIDDLE)("?")
    assert "ir/io-read" in ready(NEWEST)("?")


# -- identification, flags, store --------------------------------------------------------------------


@pytest.mark.parametrize("era", LATER)
def test_identification(blank, era):
    device = blank(era)
    assert device("id") == 'identification is "<unset>"\n'
    assert device("id relay for pc1") == 'identification is "relay for pc1"\n'
    assert device("id") == 'identification is "relay for pc1"\n'
    assert device("id " + "x" * 80) == f'identification is "{"x" * 63}"\n'


def test_first_key_of_a_blank_2019_store_is_lost(blank):
    device = blank(OLD)
    assert device("id x") == 'identification is "<unset>"\n'
    assert device("id x") == 'identification is "x"\n'
    assert device("cd").startswith("\nidentification=x\nidentification=x\n\ntotal config entries: 2,")


@pytest.mark.parametrize("era", LATER)
def test_first_key_is_kept_later(blank, era):
    assert blank(era)("id x") == 'identification is "x"\n'


@pytest.mark.parametrize(("era", "count", "console"), [(NEWEST, 16, True), (MIDDLE, 20, True), (OLD, 18, False)])
def test_flags_of_a_blank_device(blank, era, count, console):
    device = blank(era)
    lines = device("fs").split("\n")
    assert lines[:2] == ["> flags:", ">"]
    assert len(lines) == 2 + count + 1
    assert ">    no strip-telnet" in lines
    assert ">       log-to-uart" in lines
    assert ">       log-to-buffer" in lines
    assert (">       cmd-from-uart" in lines) is console


@pytest.mark.parametrize("era", ALL)
def test_clearing_a_flag_lists_and_stores_it(ready, era):
    device = ready(era)
    device("fs log-to-uart")
    reply = device("fu log-to-uart")
    assert reply.startswith("> flags:\n>\n>    no strip-telnet\n>    no log-to-uart\n>    ")
    assert "\n>       log-to-buffer\n" in reply
    device.reboot()
    assert ">    no log-to-uart\n" in device("fs")


@pytest.mark.parametrize(
    ("era", "text", "value"), [(NEWEST, "010", 10), (OLD, "010", 8), (OLD, "7x", 7), (NEWEST, "7x", None)]
)
def test_stored_numbers_are_read_as_the_era_does(ready, era, text, value):
    device = ready(era)
    device(f"cs a -1 -1 {text}")
    assert device("cqi a -1 -1") == ("ERROR\n" if value is None else f"a={value} OK\n")


def test_dump_of_the_default_flags(blank):
    device = blank(NEWEST)
    device("bp 23")
    assert device("cd") == "bridge.port=23\n\ntotal config entries: 1, flags: 20102\n"


@pytest.mark.parametrize(("era", "line"), [
    (NEWEST, "io.0.0.timer.delay=500\n"),
    (MIDDLE, "io.0.0.timer.delay=500 (500/500/0x1f4)\n"),
    (OLD, "io.0.0.timer.delay=500 (500/500/0x1f4)\n"),
])  # fmt: skip
def test_dump_of_a_number(ready, era, line):
    assert line in ready(era)("cd")


@pytest.mark.parametrize("era", ALL)
def test_ports_take_effect_at_the_next_boot(ready, era):
    device = ready(era)
    device("bp 4000")
    assert device.firmware.bridge_port == 23
    device.reboot()
    assert device.firmware.bridge_port == 4000
    assert device("bp 0") == "> port: 0\n"
    assert device("bp 0") == "> cannot delete config (default values)\n"


@pytest.mark.parametrize("era", ALL)
def test_the_bridge_is_off_in_a_blank_device(blank, era):
    device = blank(era)
    assert device("bp") == "> port: 0\n"
    assert device.firmware.bridge_port == 0


@pytest.mark.parametrize("era", ALL)
def test_uart_settings_work_at_once_and_stay(ready, era):
    device = ready(era)
    device("ub 0 38400")
    device("up 0 even")
    assert device.firmware.uarts[0].baud == 38400
    device.reboot()
    assert device("ub 0") == "> baudrate[0]: 38400\n"
    assert device("ub 0 115200") == "> baudrate[0]: 115200\n"
    assert device.firmware.uarts[0].parity == 1


@pytest.mark.parametrize("era", ALL)
def test_a_store_that_cannot_be_opened(ready, era):
    device = ready(era)
    device.store.locked = True
    assert device("im 0 0 doutput") == "config write failure (open)\n"
    assert device("cs a -1 -1 b") == "config set failure (open)\n"
    assert device("id x") == "> cannot set identification\n"


@pytest.mark.parametrize("era", ALL)
def test_only_changes_wear_the_flash(ready, era):
    device = ready(era)
    for text in ("ir 0 0", "it 0 0 on", "im 0 0", "cd", "bp", "fs", "ub 0 115200", "cde nothing -1 -1 0"):
        assert device.outcome(text).flash_writes == 0, text
    assert device.outcome("id new").flash_writes == 1
    assert device.outcome("im 0 2 dinput").flash_writes == 1


def test_actions_after_the_reply(ready):
    device = ready(NEWEST)
    assert device.outcome("q").action is Action.DISCONNECT
    assert device.outcome("r").action is Action.RESET
    assert device.outcome("wm client").action is Action.WLAN_RESTART
    assert device.outcome("ir 0 2").action is Action.NOTHING


# -- im ----------------------------------------------------------------------------------------------


UART_LINES = {
    NEWEST: (
        "uart 0, pin: tx, autofill: no, character: 0x00, inverted: no",
        "uart 0, pin: rx, inverted: no",
    ),
    MIDDLE: (
        "uart 0, pin: tx, autofill: no, character: 0x00, inverted: no",
        "uart 0, pin: rx, inverted: no",
    ),
    OLD: ("uart 0, pin: tx, autofill: no, character: 0x00", "uart 0, pin: rx"),
}


@pytest.mark.parametrize("era", ALL)
def test_im_lines(blank, era):
    device = blank(era)
    head = ("" if era is OLD else "* ") + "io[0]: Internal GPIO@00\n"
    disabled = "[hw: disabled      ] flags: [], , max value: 0, info: \n"
    assert device("im 0 0") == f"{head}  pin:  0, mode: disabled             {disabled}"
    device("im 0 0 doutput")
    assert device("im 0 0") == (
        f"{head}  pin:  0, mode: digital output       [hw: digital output] flags: [], output, state: off, "
        "max value: 1, info: \n"
    )
    device("im 0 2 dinput")
    assert device("im 0 2") == (
        f"{head}  pin:  2, mode: digital input        [hw: digital input ] flags: [], state: on, max value: 1, info: \n"
    )
    device("im 0 3 uart")
    for pin, info in zip((1, 3), UART_LINES[era], strict=True):
        assert device(f"im 0 {pin}") == (
            f"{head}  pin:  {pin}, mode: uart                 [hw: uart          ] flags: [], uart, "
            f"max value: 255, info: {info}\n"
        )


def test_idle_timer_line(blank):
    device = blank(NEWEST)
    device("im 0 0 dinput")
    device("isf 0 0 invert")
    assert device("im 0 0 timer down 500") == (
        "* io[0]: Internal GPIO@00\n"
        + PIN0_TIMER
        + "[invert], config direction: down, speed: 500 ms, current direction: none, delay: 0 ms, state: off, "
        "max value: 1, info: \n"
    )


@pytest.mark.parametrize(("era", "lines"), [(NEWEST, 9), (MIDDLE, 7)])
def test_im_alone_lists_the_ios(ready, era, lines):
    text = ready(era)("im")
    assert text.count("\n") == lines
    assert text.startswith("* io[0]: Internal GPIO@00\n* io[1]: Auxilliary GPIO (RTC+ADC)@01\n  io[2]: MCP23017 ")


def test_im_alone_lists_all_pins_in_2019(ready):
    assert ready(OLD)("im").count("  pin: ") == 18


@pytest.mark.parametrize(("era", "rx"), [(NEWEST, "uart"), (MIDDLE, "uart"), (OLD, "disabled")])
def test_uart_pins_of_a_blank_device(blank, era, rx):
    device = blank(era)
    assert "mode: uart " in device("im 0 1")
    assert f"mode: {rx} " in device("im 0 3")


@pytest.mark.parametrize("era", LATER)
def test_im_deletes_the_stored_flags_and_keeps_the_running_ones(ready, era):
    device = ready(era)
    device("im 0 0 timer down 400")
    assert "flags: [invert]" in device("im 0 0")
    assert "io.0.0.flags" not in device("cd")
    device.reboot()
    assert "flags: []" in device("im 0 0")


@pytest.mark.parametrize("era", ALL)
def test_uart_on_a_pin_without_one_has_changed_the_store_already(ready, era):
    device = ready(era)
    device("im 0 0 uart")
    assert device("cqi io.0.0.mode -1 -1") == "io.0.0.mode=8 OK\n"
    assert device("ir 0 0").startswith("disabled: ")


@pytest.mark.parametrize("era", ALL)
def test_speed_wraps_at_18_bits(ready, era):
    assert "speed: 100 ms" in ready(era)(f"im 0 0 timer down {262144 + 100}")


@pytest.mark.parametrize(("era", "value"), [(NEWEST, 0), (MIDDLE, 1), (OLD, 1)])
def test_iw_with_a_negative_value(blank, era, value):
    device = blank(era)
    device("im 0 0 doutput")
    assert device("iw 0 0 -1") == f"digital output: [{value}]\n"


@pytest.mark.parametrize("era", ALL)
def test_iw_on_an_output(blank, era):
    device = blank(era)
    device("im 0 0 doutput")
    assert device("iw 0 0 1") == "digital output: [1]\n"
    assert device.level()
    assert device("iw 0 0 0") == "digital output: [0]\n"
    assert device("iw 0 0 7") == "digital output: [1]\n"
    assert device("iw 0 0") == "digital output: [0]\n"
    assert device("iw 0 0 1") == "digital output: [1]\n"
    assert device("iw 0 0 x") == "digital output: [0]\n"
    assert not device.level()


@pytest.mark.parametrize("era", ALL)
def test_it_on_an_output(blank, era):
    device = blank(era)
    device("im 0 0 doutput")
    for action, level in (("on", 1), ("off", 0), ("start", 1), ("stop", 0), ("up", 1), ("down", 0)):
        assert device(f"it 0 0 {action}") == f"trigger {action} 0/0: ok\n"
        assert device.level() is bool(level)
    assert device("it 0 0 toggle") == "trigger toggle 0/0: invalid trigger type\n"


def test_suspend_and_resume(ready):
    device = ready(NEWEST)
    device("it 0 0 on")
    assert device("ios 0 0") == "i/o 0/0 suspended\n"
    assert device.level()  # released, because of `invert`
    assert device("it 0 0 on") == "trigger on 0/0: \n"
    assert device("iw 0 0 1") == "timer (blink): \n"
    assert "flags: [suspended invert]" in device("im 0 0")
    assert device("ior 0 0") == "i/o 0/0 resumed\n"
    assert device("it 0 0 on") == "trigger on 0/0: ok\n"


def test_write_on_a_suspended_output(blank):
    device = blank(NEWEST)
    device("im 0 0 doutput")
    device("ios 0 0")
    assert device("iw 0 0 1") == "digital output: \n"


# -- sequencer, trigger associations, HTTP -----------------------------------------------------------


@pytest.mark.parametrize("era", LATER)
def test_sequencer_plays(blank, era):
    device = blank(era)
    device("im 0 0 doutput")
    device("sec")
    assert device("sea 0 0 0 1 500") == "> sequencer-set: 0: 0/0 1 500 ms on\n"
    assert device("sea -1 0 0 0 200") == "> sequencer-set: 1: 0/0 0 200 ms on\n"
    assert device("sel 0").startswith("> index io pin value duration_ms\n>     0  0   0     1         500 on\n")
    device("ses 0 1")
    device.wait(0.001)
    assert device.level()
    assert device("ss").startswith("> sequencer\n>\n> running: yes\n")
    device.wait(0.501)
    assert not device.level()
    device.wait(1)
    assert device("ss").startswith("> sequencer\n>\n> running: no\n")
    assert device("ser 1") == "sequencer-remove: ok\n"


@pytest.mark.parametrize("era", ALL)
def test_a_status_trigger_presses_on_every_command(ready, era):
    device = ready(era)
    assert device("gss 0 0") == "status trigger at io 0/0 (-1 is disabled)\n"
    device.reboot()
    idle = device.level()
    device("ir 0 2")
    assert device.level() is not idle


@pytest.mark.parametrize("era", ALL)
def test_http_can_press(ready, era):
    device = ready(era)
    idle = device.level()
    assert device("GET /set?io=0&pin=0&value=" + ("0" if era is OLD else "1")).startswith("HTTP/1.0 200 OK\r\n")
    assert device.level() is not idle
