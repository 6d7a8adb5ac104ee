"""What is known of one node and of one service. Payloads are kept as they came and parsed when somebody asks.

A start with 10,000 nodes brings 40,000 retained messages; most of them are never looked at.
"""

import logging
import math
from enum import StrEnum
from functools import lru_cache
from typing import Generic, TypeVar

from pypmi.contract import Availability, BootIntent, ConsoleState, ContractError, NodeInfo, NodeState, ServiceInfo
from pypmi.contract.base import Payload

logger = logging.getLogger(__name__)

MAX_SENSORS = 200
_P = TypeVar("_P", bound=Payload)


class Change(StrEnum):
    """What a listener is told has changed."""

    STATE = "state"
    AVAILABILITY = "availability"
    INFO = "info"
    BOOT = "boot"
    SENSOR = "sensor"
    CONSOLE = "console"


def _parsed(model: type[_P], raw: bytes) -> _P:
    """A payload as its model. Raises `ContractError`."""
    value = model.from_payload(raw)
    # pydantic notes which fields were given: a set of 2 kB for each state, and the same in nearly all of them
    object.__setattr__(value, "__pydantic_fields_set__", _shared(frozenset(value.model_fields_set)))
    return value


@lru_cache(256)
def _shared(names: frozenset[str]) -> set[str]:
    return set(names)


class _Lazy(Generic[_P]):
    """A payload that is parsed at the first look. A wrong one is logged once and counts as absent."""

    __slots__ = ("_model", "_raw", "_value")

    def __init__(self, model: type[_P]) -> None:
        self._model = model
        self._raw: bytes | None = None
        self._value: _P | None = None

    def put(self, raw: bytes) -> None:
        self._raw = raw or None
        self._value = None

    def set(self, value: _P) -> None:
        self._raw = None
        self._value = value

    @property
    def raw(self) -> bytes | None:
        return self._raw

    def get(self) -> _P | None:
        if self._raw is not None:
            self._value, self._raw = self._parse(self._raw), None
        return self._value

    def peek(self) -> _P | None:
        """The same, but what has to be parsed for it is not kept: a model takes ten times its payload's memory."""
        return self._value if self._raw is None else self._parse(self._raw)

    def _parse(self, raw: bytes) -> _P | None:
        try:
            return _parsed(self._model, raw)
        except ContractError as error:
            logger.warning("ignored a wrong %s payload: %s", self._model.__name__, error)
            return None


class ServiceView:
    """One service on the bus."""

    __slots__ = ("_info", "available", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.available = False
        self._info: _Lazy[ServiceInfo] = _Lazy(ServiceInfo)

    @property
    def info(self) -> ServiceInfo | None:
        """What it says of itself."""
        return self._info.get()

    def put_info(self, raw: bytes) -> None:
        """Take in a new payload."""
        self._info.put(raw)


class NodeView:
    """One node, with its agent's availability. Readers never block and never raise."""

    __slots__ = ("_agent", "_boot", "_console", "_info", "_online", "_sensors", "_services", "_state", "id")

    def __init__(self, node_id: str, services: dict[str, ServiceView]) -> None:
        self.id = node_id
        self._services = services
        self._agent: ServiceView | None = None
        self._online = False
        self._state: _Lazy[NodeState] = _Lazy(NodeState)
        self._info: _Lazy[NodeInfo] = _Lazy(NodeInfo)
        self._boot: _Lazy[BootIntent] = _Lazy(BootIntent)
        self._console: _Lazy[ConsoleState] = _Lazy(ConsoleState)
        self._sensors: dict[str, float] = {}

    @property
    def available(self) -> bool:
        """Its own availability and its agent's are both online."""
        return self._online and self.agent_available  # each status that the gateway answers asks this

    @property
    def node_available(self) -> bool:
        """Its own availability alone: can the agent reach the hardware."""
        return self._online

    @property
    def agent_available(self) -> bool:
        """Its agent is there."""
        agent = self._agent or self._find_agent()
        return agent is not None and agent.available

    @property
    def state(self) -> NodeState | None:
        """The last state, whether or not the node is available now."""
        return self._state.get()

    @property
    def info(self) -> NodeInfo | None:
        """What it is and can do."""
        return self._info.get()

    @property
    def boot(self) -> BootIntent | None:
        """Its boot intent."""
        return self._boot.get()

    @property
    def console(self) -> ConsoleState | None:
        """Its console's state."""
        return self._console.get()

    @property
    def sensors(self) -> dict[str, float]:
        """The last reading of each sensor."""
        return self._sensors

    def _find_agent(self) -> ServiceView | None:
        """Look the agent's view up; it is kept until `info` may name another one (views of services stay)."""
        info = self._info.peek()
        self._agent = self._services.get(info.agent) if info else None
        return self._agent

    def put_availability(self, raw: bytes) -> bool:
        """Take in a payload; returns whether it changed anything."""
        online = raw.strip().lower() == Availability.ONLINE.value.encode()
        changed = online != self._online
        self._online = online
        return changed

    def put_state(self, raw: bytes) -> bool:
        """Take in a payload unless it is older than what is known; returns whether it was taken.

        Within an epoch the sequence number decides. Between epochs the one of the agent's present start wins, and
        where that is not known yet, the later time.
        """
        if not raw:
            self._state.put(raw)
            return True
        if self._state.raw is None and (known := self._state.get()) is not None:
            try:
                new = _parsed(NodeState, raw)
            except ContractError as error:
                logger.warning("ignored a wrong state of %s: %s", self.id, error)
                return False
            if new.epoch == known.epoch:
                if new.seq < known.seq:
                    return False
            elif known.epoch == self._agent_epoch() and new.at <= known.at:
                return False
            self._state.set(new)
            return True
        # nothing looked at so far: the broker's order is the best there is
        self._state.put(raw)
        return True

    def _agent_epoch(self) -> str | None:
        agent = self._agent or self._find_agent()
        service = agent.info if agent else None
        return service.epoch if service else None

    def put_info(self, raw: bytes) -> None:
        """Take in a payload."""
        self._info.put(raw)
        self._agent = None

    def put_boot(self, raw: bytes) -> None:
        """Take in a payload."""
        self._boot.put(raw)

    def put_console(self, raw: bytes) -> None:
        """Take in a payload."""
        self._console.put(raw)

    def put_sensor(self, key: str, raw: bytes) -> bool:
        """Take in a reading; an empty or wrong one removes it. Returns whether it was taken."""
        try:
            value = float(raw) if len(raw) <= 32 else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            return self._sensors.pop(key, None) is not None
        if key not in self._sensors and len(self._sensors) >= MAX_SENSORS:
            return False
        self._sensors[key] = value
        return True

    @property
    def empty(self) -> bool:
        """Nothing is known of it (any more)."""
        return not self._online and not self._sensors and self.info is None and self.state is None
