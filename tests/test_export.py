"""The configuration that `pypmi export` writes, in the hands of the real FreeIPMI tools and the real conman."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest
import yaml
from stack import PYPMI, Demo, free_tcp_port, run, until

PROMPT = "root@node2:~#"


def export(demo: Demo, *words: str) -> str:
    done = run(*PYPMI, "--config", str(demo.folder / "fleet.yaml"), "export", *words, timeout=60)
    assert done.code == 0, done.text
    return done.out


def test_a_scrape_as_ipmi_exporter_does_it(demo, tmp_path):
    """Its collectors' commands, with the exported module and targets. (ipmi_exporter itself is not needed for that.)"""
    module = yaml.safe_load(export(demo, "ipmi-exporter", "--secrets"))["modules"]["default"]
    groups = json.loads(export(demo, "ipmi-exporter", "--targets"))
    assert len(groups) == 4
    settings = tmp_path / "freeipmi.conf"  # ipmi_exporter hands its module over in such a file
    settings.write_text(
        f"driver-type {module['driver']}\nprivilege-level {module['privilege']}\nusername {module['user']}\n"
        f"password {module['pass']}\nsession-timeout {module['timeout']}\n"
    )
    commands = {
        "bmc": ("bmc-info", "--get-device-id"),
        "ipmi": (
            "ipmi-sensors", "-Q", "--ignore-unrecognized-events", "--comma-separated-output", "--no-header-output",
            "--sdr-cache-recreate", "--output-event-bitmask", "--output-sensor-state",
            f"--sdr-cache-directory={tmp_path}",
        ),
        "chassis": ("ipmi-chassis", "--get-chassis-status"),
        "sel": ("ipmi-sel", "--info", f"--sdr-cache-directory={tmp_path}"),
    }  # fmt: skip
    assert set(module["collectors"]) == set(commands)
    wanted = {"bmc": "IPMI Version", "ipmi": "Power State", "chassis": "System Power", "sel": "Number of log entries"}
    for group in groups:
        (target,) = group["targets"]
        for collector, command in commands.items():
            done = run(*command, "--config-file", str(settings), "-h", target, timeout=60)
            assert done.code == 0, f"{collector} of {target}: {done.text}"
            assert wanted[collector] in done.out, f"{collector} of {target}: {done.text}"
    assert {group["labels"]["node"] for group in groups} == {"node1", "node2", "node3", "node4"}


@pytest.mark.timeout(180)
def test_conman_by_the_exported_configuration(demo, tmp_path):
    port = free_tcp_port()
    text = export(demo, "conman", "--port", str(port))
    config = tmp_path / "conman.conf"
    config.write_text(f'{text}server pidfile="{tmp_path}/conman.pid"\nserver logdir="{tmp_path}"\n')
    conmand = shutil.which("conmand", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert conmand, "conman is missing: apt-get install conman"
    with (tmp_path / "conmand.out").open("wb") as out:
        daemon = subprocess.Popen([conmand, "-F", "-c", str(config)], stdout=out, stderr=out, cwd=tmp_path)
    log = tmp_path / "node2.log"
    try:
        until(lambda: "node4" in run("conman", "-d", f"127.0.0.1:{port}", "-q").out, 60, "conmand with its consoles")
        assert demo.ipmitool("power", "on", target=2).code == 0
        # conmand starts ipmitool, which logs in: what the machine says from then on is in the log
        until(lambda: log.exists() and PROMPT in log.read_text(errors="replace"), 90, "the machine's words in the log")
        said = on_a_terminal("conman", "-d", f"127.0.0.1:{port}", "node2", answer=PROMPT.encode())
        assert "Connection to console [node2] opened" in said
        assert "Connection to console [node2] closed" in said
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)


def on_a_terminal(*command: str, answer: bytes, timeout: float = 60) -> str:
    """Run conman's client: press enter until the machine answers with something new, then leave with `&.`."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + timeout
    keys = b"\r"
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, f"{command} said {seen!r}"
            os.write(master, keys)
            while select.select([master], [], [], 1)[0]:
                try:
                    seen += os.read(master, 4096)
                except OSError:  # it has ended
                    break
            if seen.count(answer) >= 2:
                keys = b"&."
        assert process.returncode == 0, seen
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        os.close(master)
    return seen.decode(errors="replace")
