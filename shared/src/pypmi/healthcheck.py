"""For containers: exit status 0 when the service of this container is ready, 1 and the reason when it is not."""

import os
import sys
import urllib.error
import urllib.request

TIMEOUT = 2.5


def main() -> int:
    """Ask /readyz of the address in PYPMI_HEALTH (`HOST:PORT`)."""
    endpoint = os.environ.get("PYPMI_HEALTH", "127.0.0.1:9623")
    host, _, port = endpoint.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    try:
        # the address is the container's own setting
        with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=TIMEOUT):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace").strip())  # noqa: T201
    except OSError as error:
        print(f"no answer at {host}:{port}: {error}")  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
