"""A broker without root and without apt: the mosquitto on the PATH, else amqtt from PyPI (MQTT 3.1.1)."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from pypmi_cli.processes import Program, service_command

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Debian puts mosquitto where a user's PATH does not look."""


def find_mosquitto() -> str | None:
    """The mosquitto program, if there is one."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))


def local_broker(port: int, folder: Path, *, embedded: bool = False) -> tuple[Program, str]:
    """A broker for this machine's own use, open on the loopback address, and the MQTT version it speaks.

    For the demo only: whoever is on this machine may use it. `pypmi init` sets up a broker that asks for accounts.
    """
    mosquitto = None if embedded else find_mosquitto()
    if mosquitto is None:
        return Program("broker", service_command("pypmi_cli.broker", str(port)), log=folder / "broker.log"), "3.1.1"
    config = folder / "mosquitto.conf"
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence false",
        "max_queued_messages 100000",
        "set_tcp_nodelay true",
        # started by root it would become a user who can't read this folder
        "user root" if os.geteuid() == 0 else "",
    ]
    config.write_text("\n".join(lines) + "\n")
    return Program("broker", (mosquitto, "-c", str(config)), log=folder / "broker.log"), "5"


async def _serve(port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 1000}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await broker.start()
    await stop.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(int(sys.argv[1])))
