"""The `sol-relay` program."""

import resource
import sys

from pypmi.contract import ServiceKind
from pypmi.process import run_service
from pypmi.service import Service

from sol_relay.metrics import ConsoleMetrics
from sol_relay.relay import Relay


def main() -> int:
    """Run the relay until it is told to stop; returns the exit code."""
    # a local port takes five file descriptors: the usual 1024 end at 200 consoles
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return run_service(ServiceKind.SOL_RELAY, "Carries serial consoles to the MQTT bus.", _build)


def _build(service: Service) -> Relay:
    relay = Relay(service)
    service.registry.register(ConsoleMetrics(relay))
    return relay


if __name__ == "__main__":
    sys.exit(main())
