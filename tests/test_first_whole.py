"""The first whole: ipmitool to a simulated board and back, through gateway, broker and agent."""

import json
import os
import signal
import time

import pytest
from stack import Demo, Outcome, have, run, until

SUITES = [("-C", "3"), ("-C", "17"), ()]


@pytest.fixture(autouse=True)
def _tools():
    assert have("ipmitool", "mosquitto_sub", "ipmipower"), (
        "install mosquitto, mosquitto-clients, ipmitool, freeipmi-tools"
    )


def test_ready_file_says_where_everything_is(demo: Demo):
    ready = demo.ready
    assert ready["gateway"] == {"host": "127.0.0.1", "port": demo.port}
    assert ready["mqtt"] == {"host": "127.0.0.1", "port": demo.mqtt_port}
    assert (ready["user"], ready["password"]) == ("admin", "changeme")
    assert [(node["id"], node["channel"], node["address"]) for node in ready["nodes"]] == [
        (f"node{n}", 0, n) for n in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("options", SUITES, ids=["suite3", "suite17", "negotiated"])
def test_power_with_each_suite(demo: Demo, options):
    assert demo.ipmitool("power", "on", options=options).code == 0
    demo.wait_power("on")
    status = demo.ipmitool("power", "status", options=options)
    assert status.out.strip() == "Chassis Power is on"
    assert demo.ipmitool("power", "off", options=options).code == 0
    demo.wait_power("off")


@pytest.mark.parametrize("target", [1, 2, 3, 4])
def test_every_action_on_every_target(demo: Demo, target):
    assert demo.ipmitool("power", "on", target=target).code == 0
    demo.wait_power("on", target)
    settled(demo, target)
    for action in ("reset", "cycle"):
        done = demo.ipmitool("power", action, target=target)
        assert done.code == 0, done.text
        settled(demo, target)
        assert demo.power(target) == "on"
    done = demo.ipmitool("power", "soft", target=target)
    assert done.code == 0, done.text
    demo.wait_power("off", target)
    settled(demo, target)


def settled(demo: Demo, target: int) -> None:
    """Wait until the node has no action under way."""
    topic = f"nodes/node{target}/state"
    until(lambda: json.loads(demo.mosquitto_sub(topic)[0].split(" ", 1)[1])["action"] is None, 60, f"{topic} idle")


def test_freeipmi_and_pyghmi_on_a_direct_port(demo: Demo):
    node = demo.ready["nodes"][1]
    demo.ipmitool("power", "off", target=2)
    settled(demo, 2)
    base = ["-h", f"127.0.0.1:{node['port']}", "-u", "admin", "-p", "changeme", "-D", "LAN_2_0"]
    done = run("ipmipower", *base, "--stat")
    assert "off" in done.out, done.text
    done = run("ipmipower", *base, "--on")
    assert "ok" in done.out, done.text
    demo.wait_power("on", 2)
    script = (
        "from pyghmi.ipmi.command import Command\n"
        f"c = Command('127.0.0.1', 'admin', 'changeme', port={node['port']})\n"
        "print(c.get_power()['powerstate'])\n"
    )
    done = run(os.sys.executable, "-c", script)  # type: ignore[attr-defined]
    assert done.out.strip() == "on", done.text
    settled(demo, 2)


def test_an_unknown_target_is_refused_at_once(demo: Demo):
    done = demo.ipmitool("power", "status", target=77)
    assert done.code != 0
    assert "Destination unavailable" in done.text
    assert done.seconds < 5  # generous: the answer itself takes milliseconds


def test_the_topics_are_plain_to_read(demo: Demo):
    lines = demo.mosquitto_sub("#", count=40, timeout=5)
    topics = dict(line.split(" ", 1) for line in lines if " " in line)
    assert topics["nodes/node1/availability"] == "online"
    assert topics["services/ipmi-gateway/availability"] == "online"
    state = json.loads(topics["nodes/node1/state"])
    assert state["power"] in {"on", "off"}
    info = json.loads(topics["nodes/node1/info"])
    assert info["agent"] == "esp8266-agent"
    assert json.loads(topics["services/esp8266-agent/info"])["nodes"]


def test_a_bare_word_works_too(demo: Demo):
    demo.publish("nodes/node3/power/set", "on")
    demo.wait_power("on", 3)
    settled(demo, 3)
    demo.publish("nodes/node3/power/set", "OFF")
    demo.wait_power("off", 3)
    settled(demo, 3)


@pytest.mark.parametrize(
    ("options", "user", "password", "text"),
    [
        ((), "admin", "wrong", "Unable to establish"),
        ((), "nobody", "changeme", "Unable to establish"),
        (("-C", "0"), "admin", "changeme", "Unable to establish"),
    ],
    ids=["wrong password", "unknown user", "suite 0"],
)
def test_refusals(demo: Demo, options, user, password, text):
    done = demo.ipmitool("power", "status", user=user, password=password, options=(*options, "-v"))
    assert done.code != 0
    assert text in done.text


@pytest.mark.parametrize("victim", ["mosquitto", "esp8266_agent", "pypmi_simulator"])
def test_whatever_dies_comes_back_by_itself(demo: Demo, victim):
    """Each command fails with a fitting answer within 2 s while a part is gone, and works again afterwards."""
    demo.ipmitool("power", "off", target=4)
    settled(demo, 4)
    (pid,) = demo.pids(victim)
    os.kill(pid, signal.SIGKILL)
    answers: list[Outcome] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = demo.ipmitool("power", "on", target=4)
        answers.append(done)
        if done.code == 0:
            break
    assert answers[-1].code == 0, answers[-1].text
    demo.wait_power("on", 4)
    for failed in answers[:-1]:
        assert any(
            text in failed.text for text in ("Destination unavailable", "Timeout", "Node busy", "0xc3", "0xd3")
        ), failed.text
        assert failed.seconds < 4  # 2 s and the tool's own probing, on a busy machine
    settled(demo, 4)


def test_ctrl_c_ends_it_all(tmp_path):
    """Last, with a demo of its own: nothing is left behind."""
    demo = Demo(tmp_path, nodes=1)
    children = [pid for name in ("mosquitto", "ipmi_gateway", "esp8266_agent") for pid in demo.pids(name)]
    assert len(children) == 3
    assert demo.stop() == 0
    assert not demo.ready_file.exists()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_without_mosquitto_the_built_in_broker_serves(tmp_path):
    demo = Demo(tmp_path, nodes=2, extra=("--embedded-broker",))
    try:
        assert demo.ipmitool("power", "on", target=2).code == 0
        demo.wait_power("on", 2)
    finally:
        demo.stop()
