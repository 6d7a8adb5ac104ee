"""The retained-state cache: what it takes, what it refuses, what it says when the broker is away."""

from typing import Any

from pypmi.bus import Message
from pypmi.contract import (
    Capability,
    Event,
    EventType,
    NodeInfo,
    NodeState,
    PowerState,
    ServiceInfo,
    ServiceKind,
    Topics,
    utc_now,
)
from pypmi.view import Change, FleetView, NodeView
from pypmi.view.node import ServiceView


class Wire:
    """Stands in for the broker's side of `Bus`: the handlers are called as the bus calls them."""

    def __init__(self) -> None:
        self.handlers: list[tuple[str, Any]] = []
        self.down: list[Any] = []

    def subscribe(self, topic_filter: str, handler: Any, **_: Any) -> None:
        self.handlers.append((topic_filter, handler))

    def on_disconnected(self, callback: Any) -> None:
        self.down.append(callback)

    def send(self, topic: str, payload: bytes) -> None:
        parts = topic.split("/")
        for topic_filter, handler in self.handlers:
            pattern = topic_filter.split("/")
            if len(pattern) == len(parts) and all(p in ("+", t) for p, t in zip(pattern, parts, strict=True)):
                handler(Message(topic, payload, True))


def make(**options: Any) -> tuple[Wire, FleetView]:
    wire = Wire()
    return wire, FleetView(wire, Topics(), **options)  # type: ignore[arg-type]


def state(power: str, *, epoch: str = "e1", seq: int = 0) -> bytes:
    return NodeState(power=PowerState(power), at=utc_now(), epoch=epoch, seq=seq).to_payload()


def announce(wire: Wire, node: str = "n1", agent: str = "a1", epoch: str = "e1") -> None:
    info = ServiceInfo(kind=ServiceKind.ESP8266_AGENT, version="1", host="h", started=utc_now(), epoch=epoch)
    wire.send(f"services/{agent}/info", info.to_payload())
    wire.send(f"services/{agent}/availability", b"online")
    node_info = NodeInfo(name=node, agent=agent, driver="esp8266", epoch=epoch, capabilities=frozenset({Capability.ON}))
    wire.send(f"nodes/{node}/info", node_info.to_payload())
    wire.send(f"nodes/{node}/availability", b"online")


def test_a_node_is_available_only_with_its_agent():
    wire, view = make()
    seen: list[tuple[str, Change, bool]] = []
    view.listen(lambda node, change: seen.append((node.id, change, node.available)))
    announce(wire)
    assert view.node("n1").available
    wire.send("services/a1/availability", b"offline")
    assert not view.node("n1").available
    assert view.node("n1").node_available
    assert seen[-1] == ("n1", Change.AVAILABILITY, False)


def test_without_the_broker_nothing_is_available():
    wire, view = make()
    announce(wire)
    for callback in wire.down:
        callback("gone")
    assert not view.node("n1").available


def test_an_older_state_does_not_replace_a_newer_one():
    wire, view = make()
    announce(wire)
    node = view.node("n1")
    wire.send("nodes/n1/state", state("off", seq=1))
    assert node.state is not None
    wire.send("nodes/n1/state", state("on", seq=3))
    wire.send("nodes/n1/state", state("off", seq=2))
    assert node.state.power is PowerState.ON


def test_an_older_epoch_is_ignored_and_a_new_one_taken():
    wire, view = make()
    old = state("off", epoch="e0", seq=9)
    announce(wire, epoch="e1")
    node = view.node("n1")
    wire.send("nodes/n1/state", state("on", epoch="e1"))
    assert node.state is not None
    wire.send("nodes/n1/state", old)
    assert node.state.power is PowerState.ON
    announce(wire, epoch="e2")
    wire.send("nodes/n1/state", state("off", epoch="e2"))
    assert node.state.power is PowerState.OFF


def test_wrong_payloads_unknown_topics_and_too_many_nodes_are_refused_and_said(caplog):
    wire, view = make(max_nodes=2)
    wire.send("nodes/n1/state", b"{")
    assert view.node("n1").state is None
    wire.send("nodes/Bad Name/state", state("on"))
    wire.send("nodes/n1/state", b"x" * 100_000)
    for number in range(5):
        wire.send(f"nodes/m{number}/availability", b"online")
    assert len(view.nodes) == 2
    assert "ignored a wrong NodeState" in caplog.text
    assert "not in the contract" in caplog.text
    assert "more than 2 nodes" in caplog.text


def test_sensors_are_numbers_and_bounded():
    wire, view = make()
    wire.send("nodes/n1/sensors/temp", b"21.5")
    assert view.node("n1").sensors == {"temp": 21.5}
    for wrong in (b"nan", b"inf", b"warm", b"1" * 100, b""):
        wire.send("nodes/n1/sensors/temp", b"20")
        wire.send("nodes/n1/sensors/temp", wrong)
        assert view.node("n1").sensors == {}
    for number in range(300):
        wire.send(f"nodes/n1/sensors/s{number}", b"1")
    assert len(view.node("n1").sensors) == 200


def test_events_reach_listeners_and_wrong_ones_do_not():
    wire, view = make()
    got: list[tuple[str, Event]] = []
    view.listen_events(lambda node, event: got.append((node, event)))
    event = Event(type=EventType.POWER_ON, at=utc_now(), epoch="e")
    wire.send("nodes/n1/events", event.to_payload())
    wire.send("nodes/n1/events", b"{}")
    assert got == [("n1", event)]


def test_only_wanted_nodes_cost_memory():
    wire, view = make(wanted=lambda node: node == "n1")
    wire.send("nodes/n1/availability", b"online")
    wire.send("nodes/n2/availability", b"online")
    assert list(view.nodes) == ["n1"]


def test_a_view_can_be_had_before_anything_is_known():
    _, view = make()
    node = view.node("later")
    assert isinstance(node, NodeView)
    assert (node.available, node.state, node.info, node.boot, node.console, node.empty) == (
        False, None, None, None, None, True,
    )  # fmt: skip


def test_parsed_payloads_share_what_pydantic_notes_of_them():
    """Ten thousand sets of field names were a fifth of a gateway's memory."""
    view, other = NodeView("n1", {}), NodeView("n2", {})
    for each in (view, other):
        each.put_state(NodeState(power=PowerState.ON, at=utc_now(), epoch="e").to_payload())
    assert view.state.model_fields_set is other.state.model_fields_set
    assert view.state.model_dump(exclude_unset=True)["power"] == "on"
    view.put_state(NodeState(power=PowerState.OFF, at=utc_now(), epoch="e", seq=1).to_payload())
    assert view.state.power is PowerState.OFF


def test_looking_for_the_agent_keeps_no_info_in_memory():
    services = {"a1": ServiceView("a1")}
    services["a1"].available = True
    view = NodeView("n1", services)
    view.put_availability(b"online")
    view.put_info(NodeInfo(name="n", agent="a1", driver="d", capabilities=frozenset(), epoch="e").to_payload())
    assert view.available
    assert view._info.raw is not None
    assert view.info.name == "n"
    assert view._info.raw is None
