"""Start the service that PYPMI_PROGRAM names: one systemd unit serves all of them."""

import os
import sys
from importlib.metadata import entry_points


def main() -> None:
    """Run the console script of that name in this process, so that it keeps the supervisor's process id."""
    program = os.environ.get("PYPMI_PROGRAM", "")
    found = entry_points(group="console_scripts", name=program)
    if not found:
        sys.exit(f"{program!r} is not installed here; set PYPMI_PROGRAM to a service such as esp8266-agent")
    sys.exit(next(iter(found)).load()())


if __name__ == "__main__":
    main()
