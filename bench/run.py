"""`make bench`: all that is measured, in one run, beside the peers; prints the ratios, writes docs/performance.md.

    python bench/run.py [--quick] [--only requests,sessions,...] [--no-docs]

What each part does stands in its function. A part that fails is named, and the rest goes on. Numbers that are CPU time
are the server's own, read from the system; peers take their turns with ours, round by round, so that a busy machine is
busy for all.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import consoles
import report
import roundtrip
import sol
import stages
from pypmi.bus import Bus, Message
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import TopicKind, Topics
from rigs import HERE, PER_CHANNEL, Program, Rig, build_load, load, load_command, memory, peak_memory, rig, until

RESULTS = HERE / "build" / "results.json"
DOCS = HERE.parent / "docs"
Results = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How long and how much."""

    rounds: int
    seconds: float
    sessions: int
    logins: int
    power_seconds: float
    nodes: tuple[int, ...]
    consoles: tuple[int, ...]
    console_seconds: float


RHYTHM = 0.2
"""Seconds between power commands that come one at a time."""
FULL = Size(3, 1.0, 10_000, 100_000, 12.0, (1000, 3000, 10_000), (50, 125, 250), 10.0)
QUICK = Size(2, 1.0, 10_000, 20_000, 5.0, (10_000,), (250,), 8.0)


# -- requests: ours, ipmi_sim's, pyghmi's ------------------------------------------------------------------------------


def requests(size: Size) -> Results:
    """CPU per operation: status, Get Device ID, login, and what one `ipmitool power status` sends."""
    with rig() as place:
        place.broker()
        place.write_fleet(PER_CHANNEL)
        place.agents()
        ours, sim = place.gateway(), place.ipmi_sim()
        bridge = place.bridge(PER_CHANNEL)
        cases: dict[str, Callable[[], dict[str, Any]]] = {}

        def case(name: str, server: Program | None, test: str, clients: int, suite: int = 3, **more: object) -> None:
            if server is not None:
                cases[name] = lambda: load(server, test, suite=suite, clients=clients, seconds=size.seconds, **more)

        def pyghmi(test: str, clients: int, **more: object) -> None:
            def run() -> dict[str, Any]:
                server = place.fakebmc()  # a new one each time: it never forgets a client, and gets slower
                try:
                    return load(server, test, suite=3, clients=clients, seconds=size.seconds, **more)
                finally:
                    place.stop(server)

            cases[f"pyghmi {test} {clients}"] = run

        for clients in (1, 16, 63, 1000):
            case(f"pypmi status bridged {clients}", ours, "status", clients, bridge=bridge, power=1)
            case(f"pypmi status bridged {clients} suite 17", ours, "status", clients, 17, bridge=bridge, power=1)
            case(f"pypmi device-id direct {clients}", ours, "device-id", clients)
            case(f"pypmi login {clients}", ours, "login", clients)
            case(f"pypmi mixed {clients}", ours, "mixed", clients, bridge=bridge)
            if clients <= 63:  # ipmi_sim has no more sessions
                case(f"ipmi_sim status {clients}", sim, "status", clients)
                case(f"ipmi_sim device-id {clients}", sim, "device-id", clients)
                if clients < 63:  # those that are being closed count too
                    case(f"ipmi_sim login {clients}", sim, "login", clients)
                    case(f"ipmi_sim mixed {clients}", sim, "mixed", clients)
                pyghmi("status", clients)
        for clients in (1, 16):
            case(f"pypmi login {clients} suite 17", ours, "login", clients, 17)
            case(f"pypmi mixed {clients} suite 17", ours, "mixed", clients, 17, bridge=bridge)
            pyghmi("login", clients, spread=True)
            pyghmi("mixed", clients, spread=True)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
        for number in range(size.rounds):
            for name, run in cases.items():
                say(f"round {number + 1}: {name}")
                runs[name].append(run())
    return {name: summary(of) for name, of in runs.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of the rounds of one case."""
    cpu = [run["server_us"] for run in runs]
    return {
        "us": min(cpu),
        "us_median": statistics.median(cpu),
        "per_second": max(run["per_second"] for run in runs),
        "p99_ms": min(run["p99_ms"] for run in runs),
        "load_us": statistics.median(run["load_us"] for run in runs),
        "load_busy": max(run["load_busy"] for run in runs),
        "resent": sum(run["resent"] for run in runs),
    }


# -- sessions ----------------------------------------------------------------------------------------------------------


def sessions(size: Size) -> Results:
    """Memory: sessions that are held open, and what is left of many logins and logouts."""
    with rig() as place:
        place.broker()
        place.write_fleet(PER_CHANNEL)
        place.agents()
        gateway = place.gateway()
        load(gateway, "login", suite=17, clients=16, count=2000, seconds=0)  # pools and caches have their size
        steps = [(0, memory(gateway.pid))]
        bridge = place.bridge(PER_CHANNEL)
        steps += [(n, held(gateway, n, bridge)) for n in (size.sessions // 4, size.sessions // 2, size.sessions)]
        after = memory(gateway.pid)
        growth = [after]
        for _ in range(5):
            say(f"{size.logins // 5} logins and logouts")
            load(gateway, "login", suite=17, clients=16, count=size.logins // 5, seconds=0)
            growth.append(memory(gateway.pid))
        pyghmi = place.fakebmc()
        load(pyghmi, "login", suite=3, clients=16, count=500, seconds=0, spread=True)
        before, logins = memory(pyghmi.pid), 5000
        load(pyghmi, "login", suite=3, clients=16, count=logins, seconds=0, spread=True)
        leak = (memory(pyghmi.pid) - before) / logins
    return {
        "held": steps,
        "octets_per_session": (steps[-1][1] - steps[0][1]) / size.sessions,
        "logins": size.logins,
        # the first fifth takes the places that the sessions before have left
        "octets_per_login": (growth[-1] - growth[1]) / (size.logins * 4 // 5),
        "growth": growth,
        "pyghmi_octets_per_login": leak,
    }


def held(gateway: Program, count: int, bridge: str) -> int:
    """Open so many sessions, ask one thing in each, look at the memory, and go on until all are closed."""
    say(f"{count} sessions")
    command = load_command(
        gateway, "status", suite=17, clients=count, count=count, seconds=0, warmup=0, hold=True, bridge=bridge
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if json.loads(process.stdout.readline())["ready"] != count:
            raise RuntimeError("not all sessions could be opened")
        octets = memory(gateway.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        end = json.loads(process.stdout.read())
        if end["wrong"]:
            raise RuntimeError(end["first_wrong"])
    return octets


# -- power commands ----------------------------------------------------------------------------------------------------


def power(size: Size) -> Results:
    """From the client's packet to the answer that the agent has accepted the command, beside a bare round trip."""
    with rig() as place:
        place.broker()
        place.write_fleet(100, agents=4)
        place.agents()
        gateway = place.gateway()
        bridge = place.bridge(100)
        bare: list[float] = []
        single: list[float] = []
        many: list[float] = []
        for _ in range(3):
            say("power commands")
            seconds = size.power_seconds / 4
            # in the rhythm of the commands: one that comes alone finds cold caches and sleeping cores, on either way
            trips = roundtrip.measure(place.broker_port, int(seconds / RHYTHM), RHYTHM)
            bare.append(1000 * statistics.median(trips))
            one = load(gateway, "power", suite=17, clients=1, bridge=bridge, burst=RHYTHM, seconds=seconds)
            single.append(one["p50_ms"])
            together = load(
                gateway, "power", suite=17, clients=100, bridge=bridge, burst=1, seconds=size.power_seconds / 2
            )
            many.append(together["p99_ms"])
    return {
        "bare_ms": min(bare),
        "median_ms": min(single),
        "ratio": min(one / other for one, other in zip(single, bare, strict=True)),
        "p99_ms_100": min(many),
        "p99_ms_100_rounds": many,
    }


# -- many nodes --------------------------------------------------------------------------------------------------------


def nodes(size: Size) -> Results:
    """Start-up and memory of the gateway before a broker that holds the retained topics of many nodes."""
    return {str(count): start_with(count) for count in size.nodes}


def start_with(count: int) -> Results:
    """All nodes' agents are there, with sensors and Home Assistant's discovery; then the gateway starts."""
    say(f"{count} nodes")
    with rig() as place:
        broker = place.broker()
        place.write_fleet(count, agents=4, homeassistant=True, sensors=True)
        agents = place.agents()
        asyncio.run(states_said(place.broker_port, count))
        empty = start_time(place)
        gateway = place.gateway(wait=False)
        until(gateway.ready, 60, 0.01)
        ready = time.monotonic() - gateway.started
        until(lambda: metric(gateway, "pypmi_nodes_online") == count, 60, 0.05)
        known = time.monotonic() - gateway.started
        time.sleep(2)
        cpu = rigs_cpu(gateway)
        octets, peak = memory(gateway.pid), peak_memory(gateway.pid)
        idle = rigs_cpu(gateway), time.monotonic()
        time.sleep(5)
        idle_cores = (rigs_cpu(gateway) - idle[0]) / (time.monotonic() - idle[1])
        reachable = min(count, 12 * PER_CHANNEL)
        status = load(
            gateway, "status", suite=17, clients=1000, seconds=2, bridge=place.bridge(reachable), power=1
        )  # fmt: skip
        return {
            "empty_seconds": empty,
            "ready_seconds": ready,
            "known_seconds": known,
            "cpu_seconds": cpu,
            "memory": octets,
            "peak_memory": peak,
            "idle_cores": idle_cores,
            "status_us_1000_sessions": status["server_us"],
            "broker_memory": memory(broker.pid),
            "agent_memory": [memory(agent.pid) for agent in agents],
        }


async def states_said(port: int, count: int) -> None:
    """Wait until the broker holds the state of all nodes, and each is on."""
    waiting = {f"node-{number}" for number in range(count)}
    said = asyncio.Event()
    bus, topics = Bus(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "bench-states"), Topics()

    def on_state(message: Message) -> None:
        if b'"power":"on"' in message.payload:
            waiting.discard(topics.parse(message.topic).name)
        if not waiting:
            said.set()

    bus.subscribe(topics.nodes(TopicKind.STATE), on_state)
    running = asyncio.create_task(bus.run())
    async with asyncio.timeout(180):
        await said.wait()
    running.cancel()
    await asyncio.wait({running})


def start_time(place: Rig) -> float:
    """How long an interpreter takes to load the gateway's code."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ipmi_gateway.app, pypmi.process"], check=True, cwd=place.folder)
    return time.monotonic() - started


def metric(program: Program, name: str) -> float:
    """A number of the service's /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{program.health}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return 0.0


def rigs_cpu(program: Program) -> float:
    return time.clock_gettime(~program.pid << 3 | 2)


# -- consoles ----------------------------------------------------------------------------------------------------------


def console_load(size: Size) -> Results:
    """Consoles at 115200 baud: through the relay to an MQTT viewer; through relay and gateway to IPMI clients."""
    found: Results = {}
    for count in size.consoles:
        say(f"{count} consoles, relay alone")
        found[f"relay {count}"] = asyncio.run(consoles.measure("pty", count, size.console_seconds))
        say(f"{count} consoles, relay and gateway")
        found[f"chain {count}"] = asyncio.run(sol.measure(count, size.console_seconds))
    return found


# -- all ---------------------------------------------------------------------------------------------------------------


def profile(_size: Size) -> Results:
    """Where the microseconds of a bridged status and of a login go, without sockets."""
    return stages.measure()


PARTS: dict[str, Callable[[Size], Results]] = {
    "requests": requests,
    "sessions": sessions,
    "power": power,
    "nodes": nodes,
    "consoles": console_load,
    "profile": profile,
}


def say(text: str) -> None:
    """Progress, for who waits."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


def machine() -> Results:
    """What it was measured on, in general words."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown",
    )
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(total / 1e6),
        "system": f"{os.uname().sysname} {os.uname().release.split('-')[0]}",
        "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some two minutes; does not write docs/performance.md")
    parser.add_argument("--only", help="parts, with commas; the others' last results are kept")
    parser.add_argument("--no-docs", action="store_true", help="print only")
    options = parser.parse_args()
    build_load()
    size = QUICK if options.quick else FULL
    wanted = options.only.split(",") if options.only else list(PARTS)
    results: Results = json.loads(RESULTS.read_text()) if options.only and RESULTS.exists() else {}
    results["machine"] = machine()
    failed = []
    for name in wanted:
        before = os.getloadavg()[0]
        print(f"{name} (load {before:.1f})", file=sys.stderr, flush=True)
        try:
            results[name] = {**PARTS[name](size), "load": round(before, 1)}
        except Exception as error:  # noqa: BLE001 - one part must not take the others' results with it
            failed.append(f"{name}: {error}")
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))
    print(report.goals(results))
    if not options.quick and not options.no_docs:
        report.write(results, DOCS)
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
