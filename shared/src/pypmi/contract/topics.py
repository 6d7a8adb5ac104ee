"""The one module that names topics.

`Topics` builds them (for one prefix) and takes them apart again. A node id and a service name are checked on both
ways, so that a `/`, `+` or `#` can never slip from a payload or a configuration into a topic.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from pypmi.contract.base import ContractError

NODE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Of nodes, services and sensor keys alike (sensor keys may hold `_` too)."""
_SENSOR_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def is_node_id(text: str) -> bool:
    """Whether `text` can name a node or a service: 1-63 of `a-z 0-9 -`, not starting with `-`."""
    return NODE_ID.fullmatch(text) is not None


class TopicKind(StrEnum):
    """What a topic is for. The value is the topic's tail behind `nodes/<id>/` or `services/<name>/`."""

    POWER_SET = "power/set"
    POWER_RESULT = "power/result"
    STATE = "state"
    NODE_AVAILABILITY = "availability"
    NODE_INFO = "info"
    BOOT_SET = "boot/set"
    BOOT = "boot"
    IDENTIFY_SET = "identify/set"
    SENSOR = "sensors/"
    EVENTS = "events"
    SOL_TX = "sol/tx"
    SOL_RX = "sol/rx"
    SOL_SET = "sol/set"
    SOL_STATE = "sol/state"
    SERVICE_AVAILABILITY = "services:availability"
    SERVICE_INFO = "services:info"
    SERVICE_REPLY = "services:reply"
    SERVICE_STATS = "services:stats"


_NODE_KINDS = {
    kind.value: kind for kind in TopicKind if not kind.value.startswith("services:") and kind is not TopicKind.SENSOR
}
_SERVICE_KINDS = {
    kind.value.removeprefix("services:"): kind for kind in TopicKind if kind.value.startswith("services:")
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart: its kind, the node id or service name in it, and the sensor key where there is one."""

    kind: TopicKind
    name: str
    key: str = ""


class Topics:
    """Builds and parses the topics of one fleet.

    `prefix` may stand before every topic, so that several fleets share one broker ("" for none; no leading or
    trailing slash).
    """

    def __init__(self, prefix: str = "") -> None:
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ContractError(
                f"topic prefix {prefix!r}: use letters, digits, '-', '_' with '/' between, as in 'lab/rack1'"
            )
        self.prefix = prefix
        self._head = f"{prefix}/" if prefix else ""

    def node(self, node_id: str, kind: TopicKind) -> str:
        """The topic of `kind` for one node. Raises `ContractError` for an id that can't stand in a topic."""
        if not is_node_id(node_id):
            raise ContractError(f"node id {node_id!r}: use 1-63 of a-z, 0-9 and '-', starting with a letter or digit")
        return f"{self._head}nodes/{node_id}/{kind.value}"

    def nodes(self, kind: TopicKind) -> str:
        """The subscription for `kind` of every node."""
        tail = "sensors/+" if kind is TopicKind.SENSOR else kind.value
        return f"{self._head}nodes/+/{tail}"

    def sensor(self, node_id: str, key: str) -> str:
        """The topic of one sensor's value; `key` is 1-63 of `a-z 0-9 _ -`."""
        if not _SENSOR_KEY.fullmatch(key):
            raise ContractError(f"sensor key {key!r}: use 1-63 of a-z, 0-9, '_' and '-'")
        return self.node(node_id, TopicKind.SENSOR) + key

    def node_sensors(self, node_id: str) -> str:
        """The subscription for all sensors of one node."""
        return self.node(node_id, TopicKind.SENSOR) + "+"

    def service(self, name: str, kind: TopicKind) -> str:
        """The topic of `kind` (one of the SERVICE_* kinds) for one service."""
        if not is_node_id(name):
            raise ContractError(f"service name {name!r}: use 1-63 of a-z, 0-9 and '-', starting with a letter or digit")
        return f"{self._head}services/{name}/{kind.value.removeprefix('services:')}"

    def services(self, kind: TopicKind) -> str:
        """The subscription for `kind` of every service."""
        return f"{self._head}services/+/{kind.value.removeprefix('services:')}"

    def parse(self, topic: str) -> Topic:
        """Take a topic apart. Raises `ContractError` for one that is not in the contract."""
        if not topic.startswith(self._head):
            raise ContractError(f"topic {topic[:200]!r} is not under the prefix {self.prefix!r}")
        root, _, rest = topic[len(self._head) :].partition("/")
        name, _, tail = rest.partition("/")
        if is_node_id(name):
            if root == "nodes":
                kind = _NODE_KINDS.get(tail)
                if kind is not None:
                    return Topic(kind, name)
                key = tail.removeprefix("sensors/")
                if key != tail and _SENSOR_KEY.fullmatch(key):
                    return Topic(TopicKind.SENSOR, name, key)
            elif root == "services" and tail in _SERVICE_KINDS:
                return Topic(_SERVICE_KINDS[tail], name)
        raise ContractError(f"topic {topic[:200]!r} is not in the contract")
