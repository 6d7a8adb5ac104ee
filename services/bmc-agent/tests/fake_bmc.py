"""pyghmi's own BMC server as a program: `fake_bmc.py PORT LOG` writes each action it takes as a line to LOG.

It takes cipher suite 3 only, whatever it is asked for, and knows neither sensors nor an event log.
"""

import sys
from pathlib import Path

from pyghmi.ipmi.bmc import Bmc


class RecordingBmc(Bmc):
    def __init__(self, port, log):
        super().__init__({"admin": "secret"}, port=port)
        self.log = log
        self.powerstate = "off"
        self.bootdevice = "default"

    def note(self, what):
        with self.log.open("a") as stream:
            stream.write(what + "\n")

    def get_power_state(self):
        return self.powerstate

    def power_on(self):
        self.note("on")
        self.powerstate = "on"

    def power_off(self):
        self.note("off")
        self.powerstate = "off"

    def power_cycle(self):
        self.note("cycle")
        self.powerstate = "on"

    def power_reset(self):
        self.note("reset")

    def pulse_diag(self):
        self.note("diag")

    def power_shutdown(self):
        self.note("soft")
        self.powerstate = "off"

    def get_boot_device(self):
        return self.bootdevice

    def set_boot_device(self, bootdevice):
        self.note(f"boot {bootdevice}")
        self.bootdevice = bootdevice


RecordingBmc(int(sys.argv[1]), Path(sys.argv[2])).listen()
