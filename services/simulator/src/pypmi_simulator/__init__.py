"""Simulated relay boards, machines and consoles, faithful on the wire."""

from .board import SimulatedBoard
from .eras import Era
from .faults import BoardTimings, Faults, Network
from .pc import PC, AfterPowerLoss, Button, OsState, PcTimings, Press, SoftOff

__all__ = [
    "PC",
    "AfterPowerLoss",
    "BoardTimings",
    "Button",
    "Era",
    "Faults",
    "Network",
    "OsState",
    "PcTimings",
    "Press",
    "SimulatedBoard",
    "SoftOff",
]
