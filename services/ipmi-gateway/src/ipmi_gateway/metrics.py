"""Prometheus metrics of the gateway: sessions, logins, commands, packets, consoles."""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics_core import CounterMetricFamily

from ipmi_gateway.events import CloseReason, CommandDone, Event, LoginFailed, SessionClosed, SessionOpened

if TYPE_CHECKING:
    from ipmi_gateway.app import GatewayApp


class GatewayMetrics:
    """Counts session events, and reads the rest from the gateway when somebody looks (a Prometheus collector)."""

    def __init__(self, app: "GatewayApp", registry: CollectorRegistry) -> None:
        self._app = app
        self._opened = Counter("pypmi_ipmi_sessions_opened", "Sessions opened.", ["suite"], registry=registry)
        self._closed = Counter("pypmi_ipmi_sessions_closed", "Sessions that ended.", ["reason"], registry=registry)
        self._failed = Counter(
            "pypmi_ipmi_logins_failed", "Logins refused, by RMCP+ status code.", ["status"], registry=registry
        )
        self._commands = Counter(
            "pypmi_ipmi_commands",
            "Commands that change something, by network function, command and completion code.",
            ["netfn", "command", "code"],
            registry=registry,
        )
        # looking a label up costs more than counting, and these two come with each login
        self._sessions_opened = cache(self._opened_with)
        self._sessions_closed = cache(self._closed_because)
        registry.register(self)

    def _opened_with(self, suite: int) -> Counter:
        return self._opened.labels(str(suite))

    def _closed_because(self, reason: CloseReason) -> Counter:
        return self._closed.labels(reason.name.lower())

    def on_event(self, event: Event) -> None:
        """Count what the engine reports."""
        match event:
            case SessionOpened():
                self._sessions_opened(event.suite).inc()
            case SessionClosed():
                self._sessions_closed(event.reason).inc()
            case LoginFailed():
                self._failed.labels(f"{event.status:02x}h").inc()
            case CommandDone():
                self._commands.labels(f"{event.netfn:02x}h", f"{event.command:02x}h", f"{event.code:02x}h").inc()

    def collect(self) -> Iterator[Metric]:
        """What is read when somebody looks."""
        gateway = self._app.gateway
        engine = gateway.engine
        sessions = tuple(engine.manager)
        consoles = [session for session in sessions if session.sol is not None]
        nodes = self._app.nodes()
        online = sum(self._app.view.node(node).available for node in nodes)
        yield GaugeMetricFamily("pypmi_ipmi_sessions", "Sessions that are open.", len(sessions))
        yield GaugeMetricFamily("pypmi_ipmi_consoles", "Sessions that have a console.", len(consoles))
        yield GaugeMetricFamily("pypmi_nodes", "Nodes served.", len(nodes))
        yield GaugeMetricFamily("pypmi_nodes_online", "Nodes that commands can reach.", online)
        yield CounterMetricFamily("pypmi_ipmi_packets_received", "Datagrams received.", engine.packets_received)
        yield CounterMetricFamily("pypmi_ipmi_packets_valid", "Datagrams that were RMCP.", engine.packets_valid)
        yield CounterMetricFamily("pypmi_ipmi_packets_sent", "Datagrams sent.", engine.packets_sent)
