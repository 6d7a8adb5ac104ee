"""What people use: ipmitool, FreeIPMI's tools, pyghmi's and python-ipmi's clients."""

import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import replace

from .bmc import Bmc, ToolResult
from .case import Group, case
from .power import make, rest, wait

IPMITOOL: dict[str, tuple[str, ...]] = {
    "chassis status": ("System Power", "Power Restore Policy", "Front-Panel Lockout"),
    "chassis power status": ("Chassis Power is",),
    "chassis policy list": ("Supported chassis power policy:  always-off",),
    "chassis restart_cause": ("System restart cause:",),
    "chassis poh": ("POH Counter",),
    "chassis selftest": ("Self Test Results    : passed",),
    "chassis bootparam get 5": ("Boot parameter version: 1", "Boot Device Selector"),
    "mc info": ("IPMI Version              : 2.0", "Device Available          : yes", "Manufacturer Name"),
    "mc guid": ("GUID",),
    "mc selftest": ("Selftest: passed",),
    "mc getenables": ("System Event Logging                     : enabled",),
    "mc watchdog get": ("Watchdog Timer",),
    "lan print": ("IP Address", "RMCP+ Cipher Suites", "MAC Address"),
    "channel info": ("802.3 LAN", "multi-session"),
    "channel getaccess 14": ("Maximum User IDs",),
    "channel authcap 14 4": ("Channel supports IPMI v2.0 : yes",),
    "channel getciphers ipmi": ("aes_cbc_128",),
    "channel getciphers sol": ("aes_cbc_128",),
    "user list": ("ADMINISTRATOR",),
    "user summary": ("Enabled User Count",),
    "session info active": ("privilege level               : ADMINISTRATOR",),
    "session info all": ("privilege level               : ADMINISTRATOR", "console ip"),
    "sdr elist all": ("ok",),
    "sdr type list": ("Temperature",),
    "sdr info": ("Record Count",),
    "sensor list": ("discrete",),
    "sel info": ("SEL Information", "Supported Cmds"),
    "sel time get": ("/",),
    "fru print": ("FRU Device Description",),
    "dcmi discover": ("Supported DCMI capabilities",),
    "dcmi get_mc_id_string": ("Get Management Controller Identifier String",),
    "dcmi asset_tag": ("Asset tag:",),
    "raw 0x06 0x01": ("02",),
    "pef info": ("0x51",),
}
"""Commands that show something, and what their output must have."""

COMMANDS_PER_SECOND = 1.0
"""Seconds that one command may take; doubled for a busy machine."""


def shows(said: ToolResult, *texts: str) -> None:
    """The tool ended with 0 and said all that."""
    assert said.code == 0, f"exit status {said.code}: {said.output[-300:]}"
    for text in texts:
        assert text in said.output, f"no {text!r} in {said.output[-300:]}"


@case(Group.TOOLS, each={words: words for words in IPMITOOL})
def ipmitool_shows(bmc: Bmc, words: str) -> None:
    """ipmitool: right exit status, useful output, within a second or two."""
    said = bmc.ipmitool(*words.split())
    shows(said, *IPMITOOL[words])
    assert said.seconds < 2 * COMMANDS_PER_SECOND, f"{said.seconds:.1f} s"


@case(Group.TOOLS, each={"3": "3", "17": "17", "best": None})
def ipmitool_suite(bmc: Bmc, suite: str | None) -> None:
    """ipmitool with each -C, and with its own choice."""
    if suite is not None and int(suite) not in bmc.suites:
        return
    shows(bmc.ipmitool("mc", "info", options=("-C", suite) if suite else ()), "Device ID")


@case(Group.TOOLS, needs="nokg", each={"0": "0", "1": "1", "2": "2", "8": "8", "12": "12", "16": "16"})
def ipmitool_suite_refused(bmc: Bmc, suite: str) -> None:
    """ipmitool -C with a suite that is not served gets no session."""
    said = bmc.ipmitool("mc", "info", options=("-C", suite))
    assert said.code != 0, said.output


@case(Group.TOOLS, each={"wrong password": "wrong", "no password": ""})
def ipmitool_refused(bmc: Bmc, password: str) -> None:
    """ipmitool with a wrong password gets no session, and learns so without waiting for time-outs."""
    said = bmc.ipmitool("mc", "info", password=password, options=("-C", str(bmc.best_suite)))
    assert said.code != 0, said.output
    assert "Unable to establish" in said.output or "RAKP" in said.output, said.output
    assert said.seconds < 8, f"{said.seconds:.1f} s"


@case(Group.TOOLS, needs="kg", each={"none": (), "wrong": ("-y", "00112233")})
def ipmitool_without_the_key(bmc: Bmc, options: tuple[str, ...]) -> None:
    """ipmitool without the right BMC key shows nothing."""
    command = ["ipmitool", "-I", "lanplus", "-H", bmc.host, "-p", str(bmc.port), "-U", bmc.admin.name]
    said = bmc.run(*command, "-P", bmc.admin.password, "-N", "1", "-R", "1", *options, "mc", "info")
    assert "Device ID" not in said.output, said.output


@case(Group.TOOLS, needs="identify")
def ipmitool_identify(bmc: Bmc) -> None:
    """ipmitool chassis identify."""
    shows(bmc.ipmitool("chassis", "identify", "1"), "Chassis identify interval: 1 seconds")
    shows(bmc.ipmitool("chassis", "identify", "force"), "indefinite")
    shows(bmc.ipmitool("chassis", "identify", "0"), "off")


@case(Group.TOOLS, needs="power")
def ipmitool_power(bmc: Bmc) -> None:
    """ipmitool power on, status, soft, status: the machine follows."""
    console = make(bmc, on=False)
    shows(bmc.ipmitool("power", "on"), "Up/On")
    wait(console, on=True)
    rest(console)
    shows(bmc.ipmitool("power", "status"), "Chassis Power is on")
    shows(bmc.ipmitool("power", "soft"), "Soft")
    wait(console, on=False)
    rest(console)
    shows(bmc.ipmitool("power", "status"), "Chassis Power is off")


@case(Group.TOOLS)
def ipmitool_policy(bmc: Bmc) -> None:
    """ipmitool chassis policy sets what chassis status then shows."""
    for policy in ("always-on", "previous", "always-off"):
        shows(bmc.ipmitool("chassis", "policy", policy), f"Set chassis power restore policy to {policy}")
        shows(bmc.ipmitool("chassis", "status"), f"Power Restore Policy : {policy}")


@case(Group.TOOLS, needs="sel")
def ipmitool_events(bmc: Bmc) -> None:
    """ipmitool event, sel elist, sel get, sel delete, sel clear."""
    shows(bmc.ipmitool("sel", "clear"), "Clearing SEL")
    shows(bmc.ipmitool("event", "1"), "Temperature")
    said = bmc.ipmitool("sel", "elist")
    shows(said, "Temperature", "Upper Critical going high")
    assert time.strftime("%m/%d/%y", time.gmtime()) in said.output, f"not today's: {said.output}"
    number = said.output.split("|")[0].strip()
    shows(bmc.ipmitool("sel", "get", f"0x{number}"), "Sensor Type           : Temperature")
    shows(bmc.ipmitool("sel", "delete", f"0x{number}"), "Deleted entry")
    shows(bmc.ipmitool("sel", "clear"), "Clearing SEL")


@case(Group.TOOLS, needs="sensors")
def ipmitool_sensor_get(bmc: Bmc) -> None:
    """ipmitool sensor get of each analog sensor that sensor list names."""
    listed = bmc.ipmitool("sensor", "list")
    names = [line.split("|")[0].strip() for line in listed.output.splitlines() if "discrete" not in line]
    assert names, listed.output
    for name in names[:3]:
        shows(bmc.ipmitool("sensor", "get", name), "Sensor ID", "Sensor Type (Threshold)")


@case(Group.TOOLS, needs="watts")
def ipmitool_power_reading(bmc: Bmc) -> None:
    """ipmitool dcmi power reading shows watts."""
    shows(bmc.ipmitool("dcmi", "power", "reading"), "Instantaneous power reading", "Watts")


@case(Group.TOOLS)
def ipmitool_watchdog(bmc: Bmc) -> None:
    """ipmitool mc watchdog set, reset, get, off."""
    shows(bmc.ipmitool("mc", "watchdog", "set", "timeout=300", "action=none", "use=sms"))
    shows(bmc.ipmitool("mc", "watchdog", "reset"), "restarted")
    shows(bmc.ipmitool("mc", "watchdog", "get"), "Started", "300")
    shows(bmc.ipmitool("mc", "watchdog", "off"), "Shutoff successful")


@case(Group.TOOLS, each={"warm": "warm", "cold": "cold"})
def ipmitool_reset(bmc: Bmc, kind: str) -> None:
    """ipmitool mc reset, and the controller is there again at once or after a while."""
    shows(bmc.ipmitool("mc", "reset", kind), f"Sent {kind} reset command to MC")
    deadline = time.monotonic() + 15
    while bmc.ipmitool("mc", "info").code:
        assert time.monotonic() < deadline, "it does not come back"


# --- FreeIPMI ---

FREEIPMI: dict[str, tuple[str, ...]] = {
    "bmc-info": ("IPMI Version", ": 2.0"),
    "bmc-info --get-device-guid": ("-",),
    "ipmi-chassis --get-chassis-status": ("System Power", "Power restore policy"),
    "ipmi-chassis --get-chassis-capabilities": ("FRU Info Device Address",),
    "ipmi-chassis --get-system-restart-cause": ("Restart cause",),
    "ipmi-chassis --get-power-on-hours-counter": ("Minutes",),
    "ipmi-sel --quiet-cache --info": ("Number of log entries", "SEL version"),
    "ipmi-sel --quiet-cache --output-event-state": (),
    "ipmi-sensors --quiet-cache": ("Type",),
    "ipmi-sensors --quiet-cache --output-sensor-state --ignore-not-available-sensors": ("State",),
    "ipmi-fru --quiet-cache": ("FRU Inventory Device",),
    "ipmi-dcmi --get-dcmi-capability-info": ("DCMI Specification Conformance",),
    "ipmi-dcmi --get-asset-tag": (),
    "ipmi-dcmi --get-management-controller-identifier-string": (),
    "bmc-device --get-self-test-results": ("No Error",),
    "bmc-device --get-acpi-power-state": ("S",),
    "bmc-device --get-sel-time": ("SEL Time",),
    "bmc-device --get-sdr-repository-time": ("SDR Repository Time",),
    "ipmi-raw 0 6 1": ("rcvd: 01 00",),
    "ipmi-config --category=chassis --checkout": ("Power_Restore_Policy",),
    "ipmi-config --category=sensors --checkout": ("Section",),
    "ipmi-config --category=pef --checkout": ("Section",),
}


@case(Group.TOOLS, needs="freeipmi", each={words: words for words in FREEIPMI})
def freeipmi_shows(bmc: Bmc, words: str) -> None:
    """FreeIPMI's tools: right exit status, useful output."""
    tool, *arguments = words.split()
    shows(bmc.freeipmi(tool, f"--cipher-suite-id={bmc.best_suite}", *arguments), *FREEIPMI[words])


@case(Group.TOOLS, needs="freeipmi")
def freeipmi_config(bmc: Bmc) -> None:
    """ipmi-config checks out users, channels and LAN settings."""
    # It ends with 1 where a field is not there, such as the settings of IPMI 1.5 sessions.
    said = bmc.freeipmi("ipmi-config", "--category=core", "--checkout")
    for text in ("Section User1", "Section Lan_Conf", "Section Lan_Channel", f"Username {bmc.admin.name}"):
        assert text in " ".join(said.output.split()), f"no {text!r} in {said.output[-400:]}"


@case(Group.TOOLS, needs="freeipmi", each={"default": (), "3": ("-I", "3"), "17": ("-I", "17")})
def freeipmi_suite(bmc: Bmc, options: tuple[str, ...]) -> None:
    """FreeIPMI with each cipher suite, and with its own choice."""
    wanted = int(options[1]) if options else 3
    if wanted not in bmc.suites:
        return
    shows(bmc.freeipmi("bmc-info", *options), "IPMI Version")


@case(Group.TOOLS, needs="freeipmi")
def freeipmi_without_workarounds(bmc: Bmc) -> None:
    """FreeIPMI needs no workaround flags, also as operator and user where it asks for less."""
    for level in ("user", "operator", "admin"):
        shows(bmc.freeipmi("bmc-info", "-l", level, "--get-device-id"), "Device ID")


@case(Group.TOOLS, needs="freeipmi power")
def freeipmi_power(bmc: Bmc) -> None:
    """ipmipower --on, --stat, --soft."""
    console = make(bmc, on=False)
    assert "ok" in bmc.freeipmi("ipmipower", "--on").output
    wait(console, on=True)
    rest(console)
    assert ": on" in bmc.freeipmi("ipmipower", "--stat").output
    assert "ok" in bmc.freeipmi("ipmipower", "--soft").output
    wait(console, on=False)
    assert ": off" in bmc.freeipmi("ipmipower", "--stat").output


@case(Group.TOOLS, needs="freeipmi sol")
def ipmiconsole(bmc: Bmc) -> None:
    """ipmiconsole opens the console, passes on what is typed, and ends with its escape."""
    if "power" in bmc.capabilities:
        make(bmc, on=True)
    leader, follower = pty.openpty()
    command = ["ipmiconsole", "-h", f"{bmc.host}:{bmc.port}", "-u", bmc.admin.name, "-p", bmc.admin.password]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True)
    os.close(follower)
    try:
        _expect(leader, b"SOL established", 20)
        os.write(leader, b"mark42")
        _expect(leader, b"mark42", 10)
        os.write(leader, b"\x15&.")
        assert process.wait(10) == 0, f"exit status {process.returncode}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(leader)


def _expect(terminal: int, text: bytes, seconds: float) -> None:
    seen = b""
    deadline = time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < deadline, f"no {text!r} in {seen[-200:]!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                raise AssertionError(f"it ended: {seen[-200:]!r}") from None


# --- what Prometheus' ipmi_exporter runs ---

EXPORTER = {
    "ipmi": "ipmi-sensors -Q --ignore-unrecognized-events --comma-separated-output --no-header-output "
    "--sdr-cache-recreate --output-event-bitmask --output-sensor-state",
    "dcmi": "ipmi-dcmi --get-system-power-statistics",
    "bmc": "bmc-info --get-device-id",
    "chassis": "ipmi-chassis --get-chassis-status",
    "sel": "ipmi-sel --info",
}
EXPORTER_SHOWS = {
    "ipmi": (",",),
    "dcmi": ("Current Power",),
    "bmc": ("Firmware Revision", "Manufacturer ID"),
    "chassis": ("System Power", "Drive Fault", "Cooling/fan fault"),
    "sel": ("Number of log entries", "Free space remaining"),
}


@case(Group.TOOLS, needs="freeipmi", each={name: name for name in EXPORTER if name != "dcmi"})
def ipmi_exporter(bmc: Bmc, name: str) -> None:
    """The commands of Prometheus' ipmi_exporter work."""
    tool, *arguments = EXPORTER[name].split()
    said = bmc.freeipmi(tool, *arguments)
    assert said.code == 0, said.output
    for text in EXPORTER_SHOWS[name]:
        assert text.lower() in said.output.lower(), said.output


@case(Group.TOOLS, needs="freeipmi watts")
def ipmi_exporter_dcmi(bmc: Bmc) -> None:
    """The DCMI command of Prometheus' ipmi_exporter shows watts."""
    tool, *arguments = EXPORTER["dcmi"].split()
    shows(bmc.freeipmi(tool, *arguments), "Current Power")


# --- Python clients, each in a process of its own ---


def python(bmc: Bmc, program: str) -> ToolResult:
    return bmc.run(sys.executable, "-W", "ignore", "-c", program, timeout=60)


PYGHMI = """
from pyghmi.ipmi.command import Command
client = Command({host!r}, {user!r}, {password!r}, port={port}, kg={kg!r})
{body}
client.logout() if hasattr(client, "logout") else client.ipmi_session.logout()
"""


def pyghmi(bmc: Bmc, body: str) -> ToolResult:
    return python(
        bmc,
        PYGHMI.format(
            host=bmc.host,
            user=bmc.admin.name,
            password=bmc.admin.password,
            port=bmc.port,
            kg=bmc.kg or None,
            body=body,
        ),
    )


PYGHMI_SHOWS = {
    "power": ("print(client.get_power()['powerstate'])", ("o",)),
    "device id": ("print(client.get_firmware() and 'firmware' or client.get_mci())", ()),
    "boot device": (
        """
client.set_bootdev('network', persist=True, uefiboot=True)
print(client.get_bootdev())
client.set_bootdev('default')
""",
        ("network", "'persistent': True", "'uefimode': True"),
    ),
    "sensors": ("print([r.name for r in client.get_sensor_data()])", ("[",)),
    "inventory": ("print(dict(client.get_inventory()))", ("System",)),
    "event log": ("print(list(client.get_event_log()))", ("[",)),
    "health": ("print(client.get_health()['health'])", ()),
    "LAN": ("print(client.get_net_configuration())", ("ipv4_address",)),
    "users": ("print(client.get_users())", ("name",)),
    "raw": ("print(client.raw_command(netfn=6, command=1)['data'][4])", ("2",)),
}


@case(Group.TOOLS, needs="direct nokg", each={name: name for name in PYGHMI_SHOWS})
def pyghmi_client(bmc: Bmc, name: str) -> None:
    """pyghmi's client."""
    body, texts = PYGHMI_SHOWS[name]
    shows(pyghmi(bmc, body), *texts)


@case(Group.TOOLS, needs="bridging nokg")
def pyghmi_bridged(bmc: Bmc) -> None:
    """pyghmi's client bridges: chassis status of the target."""
    body = (
        f"to = {{'addr': {bmc.target}, 'channel': {bmc.channel}}}\n"
        "r = client.raw_command(netfn=0, command=1, bridge_request=to)\n"
        "print('code', r.get('code', 0), len(r['data']))"
    )
    shows(pyghmi(bmc, body), "code 0")


@case(Group.TOOLS, needs="direct nokg")
def pyghmi_wrong_password(bmc: Bmc) -> None:
    """pyghmi's client with a wrong password is told so."""
    said = python(
        bmc,
        f"from pyghmi.ipmi.command import Command\nCommand({bmc.host!r}, {bmc.admin.name!r}, 'wrong', port={bmc.port})",
    )
    assert said.code != 0
    assert "Incorrect password" in said.output or "password" in said.output.lower(), said.output[-300:]


PYTHON_IPMI = """
import pyipmi, pyipmi.interfaces
interface = pyipmi.interfaces.create_interface('rmcpplus', cipher_suite={suite}, kg={kg}, keep_alive_interval=0)
client = pyipmi.create_connection(interface)
client.session.set_session_type_rmcp({host!r}, port={port})
client.session.set_auth_type_user({user!r}, {password!r})
client.target = {target}
client.open()
{body}
client.close()
"""
PYTHON_IPMI_SHOWS = {
    "device id": ("print(client.get_device_id().ipmi_version)", ("2",)),
    "chassis status": ("print(client.get_chassis_status().power_on in (True, False))", ("True",)),
    "GUID": ("print(len(str(client.get_device_guid())) > 0)", ("True",)),
    "SDR": ("print(sum(1 for _ in client.sdr_repository_entries()) > 0)", ("True",)),
    "SEL": ("print(client.get_sel_entries_count() >= 0)", ("True",)),
    "FRU": ("print(client.get_fru_inventory() is not None)", ("True",)),
    "watchdog": ("print(client.get_watchdog_timer().is_running)", ("False",)),
    "LAN": ("print(len(client.get_lan_config_param(channel=14, parameter_selector=3)))", ("4",)),
    "user": ("print(client.get_username(userid=2) is not None)", ("True",)),
}


def python_ipmi(bmc: Bmc, body: str, suite: int | None = None) -> ToolResult:
    """Run lines with python-ipmi's own RMCP+ session, bridged if there is a target."""
    if bmc.target is None:
        target = "pyipmi.Target(0x20)"
    else:
        target = f"pyipmi.Target({bmc.target}, routing=[(0x81, 0x20, {bmc.channel}), (0x20, {bmc.target}, None)])"
    program = PYTHON_IPMI.format(
        host=bmc.host,
        port=bmc.port,
        user=bmc.admin.name,
        password=bmc.admin.password,
        kg=bmc.kg or None,
        suite=suite or bmc.best_suite,
        target=target,
        body=body,
    )
    return python(bmc, program)


@case(Group.TOOLS, each={name: name for name in PYTHON_IPMI_SHOWS})
def python_ipmi_client(bmc: Bmc, name: str) -> None:
    """python-ipmi's client, with its own RMCP+ implementation."""
    body, texts = PYTHON_IPMI_SHOWS[name]
    shows(python_ipmi(bmc, body), *texts)


@case(Group.TOOLS, needs="suite3")
def python_ipmi_suite3(bmc: Bmc) -> None:
    """python-ipmi's client with cipher suite 3."""
    shows(python_ipmi(bmc, "print(client.get_device_id().ipmi_version)", 3), "2")


@case(Group.TOOLS)
def python_ipmi_wrong_password(bmc: Bmc) -> None:
    """python-ipmi's client with a wrong password is told so."""
    wrong = replace(bmc, admin=replace(bmc.admin, password="wrong"), open=[])
    said = python_ipmi(wrong, "print('in')")
    assert said.code != 0, "it got in"
    assert "0x0f" in said.output.lower() or "auth" in said.output.lower(), said.output[-300:]
