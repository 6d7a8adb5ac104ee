"""The console script `bmc-agent`.

Nothing is imported at the top: multiprocessing imports this module into each worker process once more, and all that the
agent needs would cost 30 MB there.
"""

import sys


def main() -> None:
    """Run the agent until it is told to stop."""
    from bmc_agent.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
