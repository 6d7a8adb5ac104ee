"""The process around a service: command line, configuration file, state folder, signals, supervisor.

Exit codes: 0 stopped, 2 wrong configuration, 3 another process has this service's name, 1 anything else.
"""

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pypmi.config.document import ConfigError, Problem
from pypmi.config.load import LoadedFleet, load_fleet
from pypmi.contract import ServiceKind, is_node_id
from pypmi.health import HealthServer
from pypmi.logs import set_up_logging
from pypmi.notify import notify
from pypmi.service import App, NameTakenError, Service, package_version

logger = logging.getLogger(__name__)

EXIT_CONFIG = 2
EXIT_NAME_TAKEN = 3
_COLLECT_AFTER = 20_000
"""Objects made and not dropped since; Python's own choice is 700."""
_STOP_SECONDS = 4.0
"""What is not done by then is cut off: containers are killed after a few seconds anyway."""
_WATCHDOG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Options:
    kind: ServiceKind
    name: str
    config: Path
    state_dir: Path
    health: str | None


def run_service(
    kind: ServiceKind, description: str, build: Callable[[Service], App], argv: list[str] | None = None
) -> int:
    """Run a service from the command line until it is told to stop. Returns the exit code."""
    parser = argparse.ArgumentParser(prog=kind.value, description=description)
    environ = os.environ
    parser.add_argument(
        "--config", type=Path, default=Path(environ.get("PYPMI_CONFIG", "fleet.yaml")), help="fleet.yaml"
    )
    parser.add_argument(
        "--name", default=environ.get("PYPMI_NAME", kind.value), help="this service's name in the fleet"
    )
    parser.add_argument(
        "--state-dir", type=Path, default=environ.get("PYPMI_STATE_DIR"), help="where its files are kept"
    )
    parser.add_argument(
        "--health", default=environ.get("PYPMI_HEALTH"), help="HOST:PORT for /healthz, /readyz, /metrics"
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and stop")
    parser.add_argument("--version", action="version", version=package_version())
    options = parser.parse_args(argv)
    if not is_node_id(options.name):
        print(f"--name {options.name!r}: use 1-63 of a-z, 0-9 and -", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    gc.disable()  # until all is made that stays: see _spare_the_collector
    try:
        loaded = _load(options.config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{options.config}: {problem}", file=sys.stderr)  # noqa: T201
        return EXIT_CONFIG
    settings = loaded.fleet.service(options.name)
    set_up_logging(options.name, environ.get("PYPMI_LOG_FORMAT") or settings.log_format, settings.log_level)
    for problem in loaded.warnings:
        logger.warning("%s: %s", options.config, problem)
    if options.check:
        return 0
    state_dir = options.state_dir or settings.state_dir or Path("/var/lib/pypmi") / options.name
    health = options.health or settings.health
    try:
        with lock_state_dir(Path(state_dir)):
            return asyncio.run(
                _serve(_Options(kind, options.name, options.config, Path(state_dir), health), loaded, build)
            )
    except NameTakenError as error:
        logger.error("%s", error)
        return EXIT_NAME_TAKEN
    except ConfigError as error:
        logger.error("%s", error)
        return EXIT_CONFIG


def _load(path: Path) -> LoadedFleet:
    """fleet.yaml, with the broker's URL from the environment where that names one. Raises `ConfigError`."""
    loaded = load_fleet(path)
    url = os.environ.get("PYPMI_MQTT_URL")
    return loaded.with_broker(url) if url else loaded


def lock_state_dir(state_dir: Path) -> IO[str]:
    """Make the state folder and hold it for this process. Raises `NameTakenError` or `ConfigError`."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        text = f"cannot use the state folder {state_dir}: {error.strerror}; give another with --state-dir"
        raise ConfigError([Problem(0, "", text)]) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise NameTakenError(f"another process of this service uses {state_dir}") from None
    return lock


async def _serve(options: _Options, loaded: LoadedFleet, build: Callable[[Service], App]) -> int:
    service = Service(options.kind, options.name, loaded, options.state_dir)
    app = build(service)
    service.announce(app.nodes())
    _spare_the_collector()
    loop = asyncio.get_running_loop()
    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    tasks = {
        asyncio.create_task(service.run_bus(), name="bus"),
        asyncio.create_task(app.run(), name="app"),
        asyncio.create_task(service.discovery.run(), name="discovery"),
        asyncio.create_task(_reload_when_told(reload, options.config, service, app), name="reload"),
        asyncio.create_task(_tell_supervisor(service, app), name="supervisor"),
    }
    if options.health:
        server = HealthServer(options.health, lambda: _not_ready(service, app), service.registry)
        tasks.add(asyncio.create_task(server.run(), name="health"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1")
        for task in done - {stopping}:
            task.result()
            raise RuntimeError(f"{task.get_name()} ended by itself")
        logger.info("stopping")
        return 0
    finally:
        # the app first: what it has to say on leaving still goes out by the bus
        service.say_goodbye()
        await _cancel(task for task in tasks if task.get_name() != "bus")
        await _cancel([*(task for task in tasks if task.get_name() == "bus"), stopping])


def _spare_the_collector() -> None:
    """Take what lives as long as the process (modules, the fleet) out of garbage collection, and collect less often.

    Looking through the objects of 10,000 nodes takes a tenth of a second, in which nobody is answered; here they are
    not garbage. What is made and dropped with each request goes by its reference count, so little is left to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 20)
    gc.enable()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending, timeout=_STOP_SECONDS)


def _not_ready(service: Service, app: App) -> str | None:
    if not service.bus.connected:
        return f"no connection to the broker: {service.bus.last_error or 'not yet'}"
    return app.not_ready()


async def _reload_when_told(reload: asyncio.Event, config: Path, service: Service, app: App) -> None:
    while True:
        await reload.wait()
        reload.clear()
        try:
            loaded = _load(config)
        except ConfigError as error:
            logger.error("not reloaded, the old configuration stays: %s", error)
            continue
        if loaded.fleet.mqtt != service.fleet.mqtt:
            logger.warning("a changed mqtt part takes a restart; the rest is taken over now")
        service.loaded = loaded
        service.discovery.configure(loaded.fleet.homeassistant)
        await app.reload(loaded)
        service.announce(app.nodes())
        logger.info("configuration reloaded")


async def _tell_supervisor(service: Service, app: App) -> None:
    """Tell systemd when the service is ready, and that it lives (READY=1, WATCHDOG=1)."""
    ready = False
    while True:
        reason = _not_ready(service, app)
        if reason is None and not ready:
            notify("READY=1")
            ready = True
        notify(f"WATCHDOG=1\nSTATUS={reason or 'serving'}")
        await asyncio.sleep(_WATCHDOG_SECONDS if ready else 0.2)
