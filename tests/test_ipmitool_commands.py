"""What people try on a bridged node: each command answers usefully and soon; a restart of the gateway loses nothing."""

import os
import re
import signal
import time

import pytest
from stack import Demo, have, until

pytestmark = pytest.mark.skipif(not have("ipmitool", "mosquitto"), reason="needs ipmitool and mosquitto")

SECONDS = 1.0
"""What a command may take; none took 0.1 s on an idle machine."""
COMMANDS: dict[str, str] = {
    "chassis status": r"System Power +: off[\s\S]*Power Restore Policy : always-off",
    "chassis identify": r"default \(15 seconds\)",
    "chassis identify 2": r"2 seconds",
    "chassis identify force": r"indefinite",
    "chassis identify 0": r"off",
    "chassis policy list": r"always-off always-on previous",
    "chassis policy previous": r"restore policy to previous",
    "chassis restart_cause": r"System restart cause: ",
    "chassis poh": r"POH Counter +: \d+ days",
    "chassis bootdev pxe": r"Set Boot Device to pxe",
    "chassis bootdev disk options=persistent,efiboot": r"Set Boot Device to disk",
    "chassis bootparam get 0": r"set complete",
    "chassis bootparam get 3": r"valid bit clearing",
    "chassis bootparam get 4": r"Boot Info Acknowledge",
    "chassis bootparam get 5": r"e008000000[\s\S]*Force Boot from default Hard-Drive",
    "chassis bootparam get 6": r"Boot Initiator Info",
    "chassis bootparam get 7": r"IANA PEN",
    "chassis bootparam set bootflag force_bios": r"Set Boot Device to force_bios",
    "chassis bootdev none": r"Set Boot Device to none",
    "chassis selftest": r"passed",
    "mc info": r"IPMI Version +: 2\.0[\s\S]*Chassis Device",
    "mc guid": r"GUID +: [0-9a-f-]{36}",
    "mc selftest": r"Selftest: passed",
    "mc getenables": r"System Event Logging +: enabled",
    "mc reset warm": r"Sent warm reset",
    "mc reset cold": r"Sent cold reset",
    "mc watchdog set timeout=300 action=none use=sms": r"success",
    "mc watchdog reset": r"restarted",
    "mc watchdog get": r"Started[\s\S]*300",
    "mc watchdog off": r"Shutoff successful",
    "lan print": r"IP Address +: [\d.]+[\s\S]*Cipher Suites +: 17,3",
    "channel info": r"802\.3 LAN",
    "channel getaccess 14": r"User Name +: admin",
    "channel authcap 14 4": r"supports IPMI v2\.0 : yes",
    "channel getciphers ipmi": r"17 +N/A +hmac_sha256[\s\S]*3 +N/A +hmac_sha1",
    "user list": r"2 +admin +\w+ +true +true +ADMINISTRATOR",
    "user summary": r"Enabled User Count +: 1",
    "session info all": r"privilege level +: ADMINISTRATOR[\s\S]*console ip +: 127\.0\.0\.1",
    "sdr elist": r"Power State +\| 01h \| ok",
    "sdr elist all": r"Dynamic MC @ 01h",
    "sdr type": r"Temperature +\(0x01\)",
    "sdr type 0x22": r"Power State",
    "sensor list": r"Power State +\| 0x40",
    "sensor get Watchdog": r"Sensor ID +: Watchdog",
    "sel info": r"Entries +: \d+",
    "event 1": r"Upper Critical - Going High",
    "sel elist": r"Temperature #0x30 \| Upper Critical going high",
    "sel time get": r"\d\d/\d\d/\d\d",
    "sel time set now": r"\d\d/\d\d/\d\d",
    "sel clear": r"Clearing SEL",
    "fru print": r"Product Serial +: DEMO0001",
    "dcmi discover": r"Supported DCMI capabilities",
    "dcmi sensors": r"Inlet",
    "dcmi asset_tag": r"demo-1",
    "dcmi get_mc_id_string": r"node1",
    "raw 0x06 0x01": r"^ 20 81 00 \d\d 02",
}
"""In this order, for what one has done the next one shows; what the output must have."""


def complaint(demo: Demo, words: str) -> str:
    """What is wrong with a command; empty when it is right, and soon enough."""
    soonest = None
    for _ in range(5):  # a machine with other work may delay one try or two
        said = demo.ipmitool(*words.split())
        if said.code != 0 or not re.search(COMMANDS[words], said.text):
            return f"{words}: exit status {said.code}\n{said.text}"
        soonest = min(said.seconds, soonest or said.seconds)
        if soonest < SECONDS:
            return ""
    return f"{words}: {soonest:.1f} s"


def test_every_command_shows_what_it_should(demo: Demo) -> None:
    wrong = [text for words in COMMANDS if (text := complaint(demo, words))]
    assert not wrong, "\n".join(wrong)


def test_power_reading_without_a_meter_is_refused(demo: Demo) -> None:
    said = demo.ipmitool("dcmi", "power", "reading")
    assert said.code != 0
    assert "Invalid command" in said.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_gateway_loses_nothing(demo: Demo, number: signal.Signals) -> None:
    shown = ("mc guid", "chassis bootparam get 5", "sel elist", "user list", "dcmi get_mc_id_string")
    own = ("mc guid", "sel elist")
    for words in (
        "sel clear", f"event {1 + (number == signal.SIGKILL)}", "chassis policy always-on",
        "chassis bootdev cdrom options=persistent,efiboot", "dcmi set_mc_id_string kept",
    ):  # fmt: skip
        assert demo.ipmitool(*words.split()).code == 0
    assert demo.ipmitool("mc", "info", target=None, password="wrong", options=("-C", "17")).code != 0

    def look() -> list[str]:
        said = [demo.ipmitool(*words.split()) for words in shown]
        said += [demo.ipmitool(*words.split(), target=None) for words in own]
        assert all(one.code == 0 for one in said), [one.text for one in said]
        return [one.out for one in said]

    time.sleep(0.6)  # the store writes in batches; what a killed process has lost is at most the last half second
    before = look()
    assert "Asserted" in before[2], before[2]
    assert re.search(r"all future boots[\s\S]*CD/DVD", before[1]), before[1]
    pids = demo.pids("ipmi_gateway")
    assert len(pids) == 1
    os.kill(pids[0], number)
    until(lambda: demo.pids("ipmi_gateway") not in ([], pids), 20, "the gateway again")
    until(lambda: demo.ipmitool("power", "status", options=("-N", "1", "-R", "2")).code == 0, 60, "an answer")
    assert look() == before
    assert "always-on" in demo.ipmitool("chassis", "status").out
