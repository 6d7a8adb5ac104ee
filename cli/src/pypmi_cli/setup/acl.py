"""Mosquitto's access rules, made from fleet.yaml: each service reads and writes what its work takes, and no more.

An agent publishes for its own nodes only. Console topics are a class of their own: what is typed there includes
passwords, so that only relays, gateways and operators reach them.
"""

from collections.abc import Iterator

from pypmi.config.fleet import Fleet, NodeSettings
from pypmi.contract import TopicKind, Topics
from pypmi.homeassistant.entities import object_name, service_object_name

from pypmi_cli.setup.accounts import HOME_ASSISTANT, OPERATOR

READABLE = (
    TopicKind.STATE,
    TopicKind.NODE_AVAILABILITY,
    TopicKind.NODE_INFO,
    TopicKind.BOOT,
    TopicKind.SENSOR,
    TopicKind.EVENTS,
    TopicKind.POWER_RESULT,
)
"""What every front end may look at."""
COMMANDS = (TopicKind.POWER_SET, TopicKind.BOOT_SET, TopicKind.IDENTIFY_SET)
CONSOLE_OUT = (TopicKind.SOL_RX, TopicKind.SOL_STATE)
CONSOLE_IN = (TopicKind.SOL_TX, TopicKind.SOL_SET)


def access_rules(fleet: Fleet, gateways: tuple[str, ...] = ("ipmi-gateway",)) -> str:
    """The text of Mosquitto's `acl_file`."""
    topics = Topics(fleet.mqtt.prefix)
    lines = [
        "# Made by `pypmi init` from fleet.yaml; run it again after changes there.",
        "# Nobody without an account gets anything: allow_anonymous is false.",
    ]
    for name in gateways:
        lines += _user(name, [*_service(fleet, topics, name), *_front_end(topics), *_console_front_end(topics)])
    agents = sorted({node.agent_name for node in fleet.nodes})
    for name in agents:
        lines += _user(name, _agent(fleet, topics, name))
    relays = sorted({node.console.relay for node in fleet.nodes if node.console is not None} - set(agents))
    for name in relays:
        lines += _user(name, _relay(fleet, topics, name))
    prefix = fleet.homeassistant.prefix
    operator = [*_front_end(topics), *_console_front_end(topics), *_tool(topics), f"readwrite {prefix}/#"]
    lines += _user(OPERATOR, operator)
    lines += _user("healthcheck", ["write healthcheck"])
    lines += _user(HOME_ASSISTANT, [*_front_end(topics), f"readwrite {prefix}/#"])
    return "\n".join(lines) + "\n"


def _user(name: str, rules: list[str]) -> list[str]:
    return ["", f"user {name}", *(f"topic {rule}" for rule in dict.fromkeys(rules))]


def _service(fleet: Fleet, topics: Topics, name: str) -> Iterator[str]:
    """Every service's own place, what it may know of others, and the way to answer them."""
    prefix = fleet.homeassistant.prefix
    yield f"readwrite {prefix}/device/{service_object_name(name, topics)}/config"
    yield f"readwrite {prefix}/+/{service_object_name(name, topics)}/+/config"
    yield f"read {prefix}/status"
    yield f"readwrite {topics.service(name, TopicKind.SERVICE_STATS)}"
    yield f"read {topics.services(TopicKind.SERVICE_INFO)}"
    yield f"readwrite {topics.service(name, TopicKind.SERVICE_AVAILABILITY)}"
    yield f"readwrite {topics.service(name, TopicKind.SERVICE_INFO)}"
    yield f"read {topics.service(name, TopicKind.SERVICE_REPLY)}"
    yield f"write {topics.services(TopicKind.SERVICE_REPLY)}"


def _tool(topics: Topics) -> Iterator[str]:
    """`pypmi` on somebody's desk: its reply topic has a random name."""
    yield f"read {topics.services(TopicKind.SERVICE_REPLY)}"


def _front_end(topics: Topics) -> Iterator[str]:
    yield f"read {topics.services(TopicKind.SERVICE_AVAILABILITY)}"
    yield f"read {topics.services(TopicKind.SERVICE_INFO)}"
    yield f"read {topics.services(TopicKind.SERVICE_STATS)}"
    yield from (f"read {topics.nodes(kind)}" for kind in READABLE)
    yield from (f"write {topics.nodes(kind)}" for kind in COMMANDS)


def _console_front_end(topics: Topics) -> Iterator[str]:
    yield from (f"read {topics.nodes(kind)}" for kind in CONSOLE_OUT)
    yield from (f"write {topics.nodes(kind)}" for kind in CONSOLE_IN)


def _agent(fleet: Fleet, topics: Topics, name: str) -> list[str]:
    rules = list(_service(fleet, topics, name))
    for node in fleet.nodes_of_agent(name):
        rules += _agent_node(topics, node)
        rules += _home_assistant(fleet, topics, node)
        rules += _device(node)
    for node in fleet.consoles_of_relay(name):
        rules += _relay_node(topics, node)
    return rules


def _agent_node(topics: Topics, node: NodeSettings) -> Iterator[str]:
    for kind in READABLE:
        # its own retained topics can be read too: an agent clears what an earlier configuration left behind
        topic = topics.node_sensors(node.id) if kind is TopicKind.SENSOR else topics.node(node.id, kind)
        yield f"readwrite {topic}"
    yield from (f"read {topics.node(node.id, kind)}" for kind in COMMANDS)


def _home_assistant(fleet: Fleet, topics: Topics, node: NodeSettings) -> Iterator[str]:
    """Also when discovery is switched off: then what an earlier run announced is removed."""
    prefix = fleet.homeassistant.prefix
    yield f"readwrite {prefix}/device/{object_name(node.id, topics)}/config"
    yield f"readwrite {prefix}/+/{object_name(node.id, topics)}/+/config"


def _device(node: NodeSettings) -> Iterator[str]:
    """Boards that speak MQTT themselves, and the agent that translates for them."""
    hardware = node.hardware
    if hardware.type == "tasmota":
        for word, access in (("cmnd", "write"), ("stat", "read"), ("tele", "read")):
            topic = hardware.full_topic.replace("%prefix%", word).replace("%topic%", hardware.topic)
            yield f"{access} {topic.rstrip('/')}/#"
    elif hardware.type == "esphome-mqtt":
        yield f"readwrite {hardware.prefix}/#"


def _relay(fleet: Fleet, topics: Topics, name: str) -> list[str]:
    rules = list(_service(fleet, topics, name))
    for node in fleet.consoles_of_relay(name):
        rules += _relay_node(topics, node)
    return rules


def _relay_node(topics: Topics, node: NodeSettings) -> Iterator[str]:
    yield from (f"readwrite {topics.node(node.id, kind)}" for kind in CONSOLE_OUT)
    yield from (f"read {topics.node(node.id, kind)}" for kind in CONSOLE_IN)
    yield f"write {topics.node(node.id, TopicKind.EVENTS)}"
