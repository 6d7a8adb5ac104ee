"""The console script `ipmi-gateway`."""

import sys

from pypmi.contract import ServiceKind
from pypmi.process import run_service

from ipmi_gateway.app import GatewayApp


def main() -> None:
    """Run the gateway until it is told to stop."""
    sys.exit(run_service(ServiceKind.GATEWAY, "IPMI 2.0 gateway to the nodes of a pypmi fleet.", GatewayApp))


if __name__ == "__main__":
    main()
