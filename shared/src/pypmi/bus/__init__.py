"""The bus: one MQTT connection per service, kept alive, with requests, replies and retained state.

`link` alone imports the MQTT client library.
"""

from pypmi.bus.bus import Bus, RetainedReplay
from pypmi.bus.errors import (
    BusDisconnectedError,
    BusError,
    BusOverflowError,
    BusRefusedError,
    ClientIdTakenError,
)
from pypmi.bus.message import Message, PublishReceipt
from pypmi.bus.requests import Exchange, Requests

__all__ = [
    "Bus",
    "BusDisconnectedError",
    "BusError",
    "BusOverflowError",
    "BusRefusedError",
    "ClientIdTakenError",
    "Exchange",
    "Message",
    "PublishReceipt",
    "Requests",
    "RetainedReplay",
]
