"""All nodes and services, kept current from the retained topics; nothing is asked of the broker when somebody looks."""

import logging
from collections.abc import Callable, Iterator

from pypmi.bus import Bus, Message
from pypmi.contract import Availability, ContractError, Event, TopicKind, Topics
from pypmi.contract.base import MAX_PAYLOAD
from pypmi.view.node import Change, NodeView, ServiceView

logger = logging.getLogger(__name__)

Listener = Callable[[NodeView, Change], None]
EventListener = Callable[[str, Event], None]

_KINDS = (
    TopicKind.NODE_AVAILABILITY,
    TopicKind.STATE,
    TopicKind.NODE_INFO,
    TopicKind.BOOT,
    TopicKind.SENSOR,
    TopicKind.SOL_STATE,
)


class FleetView:
    """Subscribes on construction; `nodes` fills as the broker answers.

    Args:
        wanted: keep only nodes for which this is true (None: all). What others publish costs no memory then.
        max_nodes: nodes beyond this number are ignored with a log line; so are services.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        *,
        wanted: Callable[[str], bool] | None = None,
        max_nodes: int = 100_000,
        events: bool = True,
    ) -> None:
        self.nodes: dict[str, NodeView] = {}
        self.services: dict[str, ServiceView] = {}
        self._topics = topics
        self._wanted = wanted
        self._max = max_nodes
        self._listeners: list[Listener] = []
        self._event_listeners: list[EventListener] = []
        self._refused: set[str] = set()
        bus.on_disconnected(self._on_disconnected)
        bus.subscribe(topics.services(TopicKind.SERVICE_AVAILABILITY), self._on_service)
        bus.subscribe(topics.services(TopicKind.SERVICE_INFO), self._on_service)
        for kind in _KINDS:
            bus.subscribe(topics.nodes(kind), self._on_node)
        if events:
            bus.subscribe(topics.nodes(TopicKind.EVENTS), self._on_event)

    def listen(self, listener: Listener) -> None:
        """Call for each change of a node; plain and quick."""
        self._listeners.append(listener)

    def listen_events(self, listener: EventListener) -> None:
        """Call with node id and event for each message on an events topic."""
        self._event_listeners.append(listener)

    def node(self, node_id: str) -> NodeView:
        """The view of a node, made on demand, so that it can be handed out before anything is known of it."""
        view = self.nodes.get(node_id)
        if view is None:
            view = self.nodes[node_id] = NodeView(node_id, self.services)
        return view

    def _on_disconnected(self, _reason: str) -> None:
        # without the broker nobody tells when an agent goes: nothing can be said to be available
        for service in self.services.values():
            service.available = False
        for view in list(self.nodes.values()):
            self._tell(view, Change.AVAILABILITY)

    def _on_service(self, message: Message) -> None:
        try:
            topic = self._topics.parse(message.topic)
        except ContractError as error:
            self._refuse(message.topic, str(error))
            return
        if len(message.payload) > MAX_PAYLOAD * 16:
            self._refuse(message.topic, "payload too long")
            return
        service = self.services.get(topic.name)
        if service is None:
            if len(self.services) >= self._max:
                self._refuse(message.topic, f"more than {self._max} services")
                return
            service = self.services[topic.name] = ServiceView(topic.name)
        if topic.kind is TopicKind.SERVICE_INFO:
            service.put_info(message.payload)
            return
        available = message.payload.strip().lower() == Availability.ONLINE.value.encode()
        if available != service.available:
            service.available = available
            for view in self._nodes_of(topic.name):
                self._tell(view, Change.AVAILABILITY)

    def _nodes_of(self, service: str) -> Iterator[NodeView]:
        for view in list(self.nodes.values()):
            info = view.info
            if info is not None and info.agent == service:
                yield view

    def _on_node(self, message: Message) -> None:
        try:
            topic = self._topics.parse(message.topic)
        except ContractError as error:
            self._refuse(message.topic, str(error))
            return
        name = topic.name
        if self._wanted is not None and not self._wanted(name):
            return
        if len(message.payload) > MAX_PAYLOAD:
            self._refuse(message.topic, "payload too long")
            return
        view = self.nodes.get(name)
        if view is None:
            if not message.payload:
                return
            if len(self.nodes) >= self._max:
                self._refuse(message.topic, f"more than {self._max} nodes")
                return
            view = self.node(name)
        change = self._put(view, topic.kind, topic.key, message.payload)
        if change is not None:
            self._tell(view, change)

    @staticmethod
    def _put(view: NodeView, kind: TopicKind, key: str, payload: bytes) -> Change | None:
        match kind:
            case TopicKind.STATE:
                return Change.STATE if view.put_state(payload) else None
            case TopicKind.NODE_AVAILABILITY:
                return Change.AVAILABILITY if view.put_availability(payload) else None
            case TopicKind.NODE_INFO:
                view.put_info(payload)
                return Change.INFO
            case TopicKind.BOOT:
                view.put_boot(payload)
                return Change.BOOT
            case TopicKind.SENSOR:
                return Change.SENSOR if view.put_sensor(key, payload) else None
            case TopicKind.SOL_STATE:
                view.put_console(payload)
                return Change.CONSOLE
            case _:
                return None

    def _on_event(self, message: Message) -> None:
        try:
            topic = self._topics.parse(message.topic)
            if self._wanted is not None and not self._wanted(topic.name):
                return
            event = Event.from_payload(message.payload)
        except ContractError as error:
            self._refuse(message.topic, str(error))
            return
        for listener in self._event_listeners:
            listener(topic.name, event)

    def _tell(self, view: NodeView, change: Change) -> None:
        for listener in self._listeners:
            listener(view, change)

    def _refuse(self, topic: str, reason: str) -> None:
        # one line a topic, and a bound on how many: whoever floods us must not fill the disk too
        if topic not in self._refused and len(self._refused) < 1000:
            self._refused.add(topic)
            logger.warning("ignored %s: %s", topic[:200], reason)
