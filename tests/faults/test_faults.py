"""Every line and every process is broken in the middle of everything; then all must be whole again, by itself."""

import json
import os
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fault_lab import CONSOLE, LIFE, POWER, Lab
from scenarios import PHASES, Fault, all_faults, moment, reload_all, restart_end_of, set_power
from stack import Outcome, until
from terminal import Terminal

RECOVERY = 10.0
"""Seconds in which all must be whole again, after the outside world is."""
RESULTS = os.environ.get("PYPMI_FAULTS_RESULTS")
"""Folder for a line on each run, from which `make faults` writes its table."""
ROUND = os.environ.get("PYPMI_FAULTS_ROUND", "0")
"""Another round strikes at other moments."""
PATIENCE = RECOVERY if RESULTS else 3 * RECOVERY
"""`make faults` measures; `make test` may run on a machine that has much else to do."""
PRESS_SLACK = 1.0
"""Seconds that a press may be longer than asked for: a pulse that the board times itself, and a tick."""
LONGEST_PRESS = 10.0

CONSOLE_PATH = ("relay-broker", "relay-board", "sol-relay", "broker", "boards")
"""What a console needs and a power command does not: there, the console is tried in every phase."""

SMALL = {
    ("agent-board: silent, then what was sent arrives", "forcing off"),
    ("agent-board: cut", "switching on"),
    ("agent-broker: silent, then what was sent arrives", "switching on"),
    ("gateway-broker: cut", "switching on"),
    ("client-gateway: bad line", "forcing off"),
    ("broker: killed", "console"),
    ("esp8266-agent: killed", "forcing off"),
    ("sol-relay: killed", "console"),
    ("ipmi-gateway: killed", "start-up"),
    ("esp8266-agent: paused", "switching on"),
    ("relay-board: cut", "console"),
    ("boards: restarted", "switching on"),
    ("broker: killed", "reload"),
}
"""Those of `make test`."""


def cases() -> list[Any]:
    found = []
    small = 0
    for fault in all_faults():
        for phase in PHASES:
            marks = [pytest.mark.nightly]
            if (fault.name, phase) in SMALL:
                small += 1  # two groups, each with a lab of its own that lasts
                marks = [pytest.mark.faults_small, pytest.mark.xdist_group(f"faults-{small % 2}")]
            found.append(pytest.param(fault, phase, id=f"{fault.name}, {phase}", marks=marks))
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("fault", "phase"), cases())
def test_whole_again(lab: Lab, fault: Fault, phase: str) -> None:
    rng = random.Random(f"{fault.name} {phase} {ROUND}")
    check = Check(lab, fault, phase)
    check.prepare()
    begin(lab, fault, phase, check)
    time.sleep(moment(phase, rng))
    fault.strike(lab)
    time.sleep(fault.lasts)
    fault.heal(lab)
    healed = time.monotonic()
    lab.wait_whole(PATIENCE, idle=False)
    check.console_works()
    check.recovery = time.monotonic() - healed
    check.finish()


def begin(lab: Lab, fault: Fault, phase: str, check: "Check") -> None:
    """Begin what is to be disturbed."""
    if phase == "switching on":
        check.ask("on")
    elif phase == "forcing off":
        check.ask("off")
    elif phase == "start-up":
        restart_end_of(lab, fault)
    elif phase == "reload":
        reload_all(lab)


class Check:
    """What must be true of one run."""

    def __init__(self, lab: Lab, fault: Fault, phase: str) -> None:
        self.lab, self.fault, self.phase = lab, fault, phase
        self.recovery = 0.0
        self._asked: list[threading.Thread] = []
        self._outcomes: list[Outcome] = []
        self._terminal: Terminal | None = None

    def prepare(self) -> None:
        """The machines are as the phase needs them."""
        lab = self.lab
        if self.fault.where == "agent-board":
            lab.space_resets()
        lab.simulator("pc", POWER, soft_off="ignore")
        set_power(lab, self.phase == "forcing off")
        if not lab.is_on(CONSOLE):
            lab.simulator("press", CONSOLE, seconds=0.2)
            lab.wait_whole(20)
        lab.simulator("presses", POWER, clear=True)
        lab.presses_asked.clear()
        self._journalled = {row[0] for row in lab.journal()}
        self._transitions = len(lab.transitions(POWER))
        self._logged = len(lab.event_log(POWER))
        if self.phase == "console":
            self._terminal = Terminal(lab)
            self._terminal.start_counting()

    def ask(self, action: str) -> None:
        """Send a power command, while other things go on."""
        thread = threading.Thread(target=lambda: self._outcomes.append(self.lab.power_command(action)))
        thread.start()
        self._asked.append(thread)

    def console_works(self) -> None:
        """Somebody who attaches now can type, and sees the answer."""
        if self._terminal is not None:
            self._seen = self._terminal.stop_counting()
            self._terminal.close()
        if self._terminal is not None or self.fault.where in CONSOLE_PATH:
            again = Terminal(self.lab)
            again.echo()
            again.close()

    def finish(self) -> None:
        lab = self.lab
        for thread in self._asked:
            thread.join(60)
        lab.wait_whole(30)
        presses = lab.presses()
        stuck = [node for node in (POWER, CONSOLE) if lab.simulator("state", node)["relay_closed"]]
        rows = [row for row in lab.journal() if row[0] not in self._journalled]
        too_many = max(len(presses) - len(lab.presses_asked), 0)
        sent = [*(at for at, _ in lab.presses_asked), *lab.issued]
        late = [press for press in presses if all(press["start"] - at > LIFE for at in sent)]
        long = [press for press in presses if press["duration"] > LONGEST_PRESS + PRESS_SLACK]
        self._wait_events()
        lost = self._events_lost()
        self._record(too_many, stuck, lost)
        assert too_many == 0, (presses, rows)
        assert not late, (late, sent)
        assert not long, long
        assert not stuck
        assert not [row for row in rows if row[2] == "accepted"], "the journal has a command without an end"
        assert len(rows) <= len(lab.presses_asked), rows
        for row in rows:
            finals = {result.status for result in lab.results.get(row[0], ()) if result.status.final}
            assert len(finals) <= 1, f"{row} was said to have ended as {finals}"
        assert lost == 0, (lab.transitions(POWER)[self._transitions :], lab.event_log(POWER)[self._logged :])
        if self._terminal is not None:
            check_count(self._seen)
        # and the next command works: at once, or, on a node that was replaced, when its board has answered again
        until(lambda: lab.power_command("on" if lab.is_on(POWER) else "off").code == 0, 5, "a power command works")
        assert len(lab.presses()) == len(presses), "there was nothing to press for"
        assert self.recovery < PATIENCE

    def _events_lost(self) -> int:
        happened = self.lab.transitions(POWER)[self._transitions :]
        logged = self.lab.event_log(POWER)[self._logged :]
        return abs(len(happened) - len(logged)) + sum(a != b for a, b in zip(happened, logged, strict=False))

    def _wait_events(self) -> None:
        """An event may come a moment after the state."""
        try:
            until(lambda: self._events_lost() == 0, 10)
        except AssertionError:
            return

    def _record(self, too_many: int, stuck: list[str], lost: int) -> None:
        if RESULTS:
            row = {
                "where": self.fault.where, "what": self.fault.what, "phase": self.phase, "recovery": self.recovery,
                "presses_too_many": too_many, "stuck": len(stuck), "events_lost": lost,
            }  # fmt: skip
            with (Path(RESULTS) / f"{ROUND}-{os.getpid()}.jsonl").open("a") as out:
                out.write(json.dumps(row) + "\n")


NOTICE = re.compile(rb"\[pypmi[^\]]*\]")
COUNT = re.compile(rb"n=(\d+)\.")


def check_count(seen: bytes) -> None:
    """Every number that is missing is missing at a place where something was said about it; none comes twice."""
    last: int | None = None
    position = 0
    for match in COUNT.finditer(seen):
        number = int(match.group(1))
        if last is not None and number != last + 1:
            between = seen[position : match.start()]
            assert NOTICE.search(between), f"{last} is followed by {number}, and nothing was said: {between[-200:]!r}"
            assert number > last, f"{number} came again after {last}"
        last, position = number, match.end()
    assert last is not None, f"no output at all: {seen[-300:]!r}"
