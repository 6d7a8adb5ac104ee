"""`pypmi up`: the services of a fleet directory as processes on this machine, with a broker of the same settings.

What Docker Compose does, without Docker: for a Pi, for a trial, and for tests.
"""

import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from pypmi.config.document import ConfigError
from pypmi.config.load import LoadedFleet, load_fleet

from pypmi_cli.broker import find_mosquitto
from pypmi_cli.processes import Program, Supervisor, service_command
from pypmi_cli.setup.accounts import service_accounts
from pypmi_cli.setup.directory import mosquitto_conf

_MODULES = {
    "ipmi-gateway": "ipmi_gateway",
    "esp8266-agent": "esp8266_agent",
    "rpi-gpio-agent": "rpi_gpio_agent",
    "bmc-agent": "bmc_agent",
    "sol-relay": "sol_relay",
}


class UpError(Exception):
    """The fleet can't be brought up; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `pypmi up` takes."""

    directory: Path
    broker: bool = True
    """Start a Mosquitto too; without, the one in fleet.yaml must be running."""


def module_of(service: str, loaded: LoadedFleet) -> str:
    """The program behind a service's name: by the name itself, or by what its nodes are worked with."""
    if service in _MODULES:
        return _MODULES[service]
    from pypmi.config.hardware import DEFAULT_AGENTS

    for node in loaded.fleet.nodes_of_agent(service):
        return _MODULES[DEFAULT_AGENTS[node.hardware.type]]
    if loaded.fleet.consoles_of_relay(service):
        return _MODULES["sol-relay"]
    return _MODULES["ipmi-gateway"]


def make_programs(options: UpOptions, loaded: LoadedFleet) -> tuple[Program, ...]:
    """The programs to run. Raises `UpError` when a broker is wanted and there is none to start."""
    directory = options.directory.resolve()
    logs = directory / "log"
    logs.mkdir(exist_ok=True)
    programs = []
    if options.broker:
        programs.append(_broker(directory, loaded, logs))
    for service in reversed(service_accounts(loaded.fleet)):
        command = service_command(
            module_of(service, loaded),
            "--config", str(directory / "fleet.yaml"),
            "--name", service,
            "--state-dir", str(directory / "state" / service),
        )  # fmt: skip
        programs.append(Program(service, command, log=logs / f"{service}.log"))
    return tuple(programs)


def _broker(directory: Path, loaded: LoadedFleet, logs: Path) -> Program:
    mosquitto = find_mosquitto()
    if mosquitto is None:
        raise UpError("no mosquitto here; install it (apt-get install mosquitto), or give --no-broker and use another")
    run = directory / "state" / "mosquitto"
    run.mkdir(parents=True, exist_ok=True)
    mqtt = loaded.fleet.mqtt
    local = mqtt.host in {"localhost", "127.0.0.1", "::1"}
    config = run / "mosquitto.conf"
    config.write_text(
        mosquitto_conf(
            str(directory / "mosquitto"),
            str(run),
            listener=f"{mqtt.port} 127.0.0.1" if local else str(mqtt.port),
            user="root" if os.geteuid() == 0 else None,
        )
    )
    return Program("broker", (mosquitto, "-c", str(config)), log=logs / "broker.log")


async def _run(programs: tuple[Program, ...]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(programs)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    running = asyncio.create_task(supervisor.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        stopping.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


def main(options: UpOptions) -> int:
    """Run the fleet's services until told to stop; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        loaded = load_fleet(options.directory / "fleet.yaml")
        programs = make_programs(options, loaded)
    except (ConfigError, UpError) as error:
        print(f"pypmi up: {error}", file=sys.stderr)
        return 1
    names = ", ".join(program.name for program in programs)
    print(f"running {names}; logs in {options.directory / 'log'}; Ctrl-C stops them", flush=True)
    asyncio.run(_run(programs))
    return 0
