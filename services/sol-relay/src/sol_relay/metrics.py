"""What Prometheus sees of the consoles; counted by them anyway, read when asked."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sol_relay.relay import Relay


class ConsoleMetrics(Collector):
    """Counters of all consoles, by node."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        online = GaugeMetricFamily("pypmi_console_online", "1 while the port is open", labels=["node"])
        viewers = GaugeMetricFamily("pypmi_console_viewers", "viewers", labels=["node"])
        received = CounterMetricFamily("pypmi_console_received_bytes", "octets read from the port", labels=["node"])
        written = CounterMetricFamily("pypmi_console_written_bytes", "octets written to the port", labels=["node"])
        dropped = CounterMetricFamily("pypmi_console_dropped_bytes", "octets of output lost", labels=["node"])
        refused = CounterMetricFamily("pypmi_console_refused_bytes", "octets of input refused", labels=["node"])
        for console in self._relay.consoles:
            labels = [console.config.node_id]
            online.add_metric(labels, float(console.online))
            viewers.add_metric(labels, len(console.viewers))
            received.add_metric(labels, console.received_octets)
            written.add_metric(labels, console.written_octets)
            dropped.add_metric(labels, console.output.dropped)
            refused.add_metric(labels, console.refused_octets)
        yield from (online, viewers, received, written, dropped, refused)
