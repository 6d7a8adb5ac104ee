"""pyghmi's own BMC server with a machine and an echoing console: `pyghmi_server.py PORT USER PASSWORD`."""

import sys
import uuid
from typing import Any

from pyghmi.ipmi.bmc import Bmc


class Machine(Bmc):
    """What pyghmi's own example (`fakebmc`) does, with a console that echoes."""

    def __init__(self, port: int, user: str, password: str) -> None:
        super().__init__({user: password}, port=port)
        self.state = "off"
        self.device = "default"

    def get_power_state(self) -> str:
        return self.state

    def power_on(self) -> None:
        self.state = "on"

    def power_off(self) -> None:
        self.state = "off"

    def power_cycle(self) -> None:
        self.state = "on"

    def power_reset(self) -> None:
        self.state = "on"

    def pulse_diag(self) -> None:
        pass

    def power_shutdown(self) -> None:
        self.state = "off"

    def get_boot_device(self) -> str:
        return self.device

    def set_boot_device(self, bootdevice: str) -> None:
        self.device = bootdevice

    def is_active(self) -> bool:
        return True  # the console is there, whatever the machine does

    def get_system_guid(self) -> uuid.UUID:
        return uuid.UUID("a1234567-89ab-cdef-a123-456789abcdef")

    def iohandler(self, data: Any) -> None:
        self.sol.send_data(data)


if __name__ == "__main__":
    Machine(int(sys.argv[1]), sys.argv[2], sys.argv[3]).listen()
