"""pyghmi's IPMI server, with one machine that is on, for comparison. Argument: the UDP port."""

import sys

from pyghmi.ipmi.bmc import Bmc
from rigs import PASSWORD, USER


class Machine(Bmc):
    """A machine that is on."""

    def get_power_state(self) -> str:
        return "on"


if __name__ == "__main__":
    Machine({USER: PASSWORD}, port=int(sys.argv[1])).listen()
