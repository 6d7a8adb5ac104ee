"""Prometheus metrics that every service has, and those of agents. Names start with `pypmi_`."""

import time
from collections import OrderedDict
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from pypmi.agent.publisher import AgentObserver
from pypmi.bus import Bus
from pypmi.contract import CommandStatus, NodeInfo, NodeState, PowerResult, PowerState

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds in seconds of the histograms."""
_MAX_UNDER_WAY = 10_000


def make_registry(service: str, kind: str, version: str, bus: Bus) -> CollectorRegistry:
    """The registry of one service, with what all services tell."""
    registry = CollectorRegistry()
    Info("pypmi_service", "Which service this is.", registry=registry).info(
        {"name": service, "kind": kind, "version": version}
    )
    gauge("pypmi_bus_connected", "1 while there is a connection to the broker.", registry, lambda: bus.connected)
    gauge("pypmi_bus_reconnects", "Connections made after the first one.", registry, lambda: bus.reconnects)
    gauge("pypmi_bus_pending", "Messages that wait for the broker's acknowledgement.", registry, lambda: bus.pending)
    return registry


def gauge(name: str, text: str, registry: CollectorRegistry, value: Callable[[], float]) -> None:
    """A gauge that is read when somebody looks."""
    Gauge(name, text, registry=registry).set_function(value)


class AgentMetrics(AgentObserver):
    """Counts what an agent says of its nodes and commands."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._online: set[str] = set()
        self._power: dict[str, PowerState] = {}
        self._accepted: OrderedDict[str, float] = OrderedDict()
        self._commands = Counter(
            "pypmi_commands", "Power commands by action and how they ended.", ["action", "status"], registry=registry
        )
        self._seconds = Histogram(
            "pypmi_command_seconds", "From accepted to the end.", ["action"], buckets=LATENCIES, registry=registry
        )
        gauge("pypmi_nodes_online", "Nodes whose hardware can be reached.", registry, lambda: len(self._online))
        power = Gauge("pypmi_nodes_power", "Nodes by sensed power.", ["power"], registry=registry)
        for state in PowerState:
            power.labels(state.value).set_function(lambda state=state: self._count(state))  # type: ignore[misc]

    def _count(self, state: PowerState) -> int:
        return sum(power is state for power in self._power.values())

    def on_availability(self, node: str, online: bool) -> None:
        """Count the reachable ones."""
        (self._online.add if online else self._online.discard)(node)

    def on_state(self, node: str, state: NodeState) -> None:
        """Count by power."""
        self._power[node] = state.power

    def on_info(self, node: str, info: NodeInfo) -> None:
        """Nothing is counted of it."""

    def on_result(self, node: str, result: PowerResult) -> None:
        """Count the command, and time it once it has ended."""
        del node
        action = result.action.value if result.action is not None else "none"
        if result.status is CommandStatus.ACCEPTED:
            self._accepted[result.id] = time.monotonic()
            if len(self._accepted) > _MAX_UNDER_WAY:
                self._accepted.popitem(last=False)
            return
        self._commands.labels(action, result.status.value).inc()
        began = self._accepted.pop(result.id, None)
        if began is not None:
            self._seconds.labels(action).observe(time.monotonic() - began)

    def on_removed(self, node: str) -> None:
        """Forget a node that has left."""
        self._online.discard(node)
        self._power.pop(node, None)
