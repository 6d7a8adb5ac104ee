"""The fleet as the bus shows it: a cache of every retained topic, for front ends."""

from pypmi.view.fleet import FleetView
from pypmi.view.node import Change, NodeView

__all__ = ["Change", "FleetView", "NodeView"]
