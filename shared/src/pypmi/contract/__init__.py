"""The MQTT contract: every topic (`topics`) and every payload (the model modules), named once for all services.

The contract is the product's public interface. Nothing outside this package spells a topic or parses a payload.
"""

from pypmi.contract.base import CONTRACT_VERSION, ContractError, new_id, utc_now
from pypmi.contract.boot import BootDevice, BootIntent, BootRequest
from pypmi.contract.console import (
    ConsoleAck,
    ConsoleAction,
    ConsoleReplay,
    ConsoleRequest,
    ConsoleState,
    SolPosition,
)
from pypmi.contract.event import Event, EventType
from pypmi.contract.identify import IdentifyRequest, IdentifyState
from pypmi.contract.node import (
    Availability,
    Capability,
    FruFields,
    NodeFault,
    NodeInfo,
    NodeState,
    PowerState,
)
from pypmi.contract.power import (
    CommandError,
    CommandStatus,
    ErrorCode,
    PowerAction,
    PowerCommand,
    PowerResult,
    parse_power_command,
)
from pypmi.contract.sensor import SensorInfo, SensorKind, Thresholds
from pypmi.contract.service import ServiceInfo, ServiceKind, ServiceStats
from pypmi.contract.topics import NODE_ID, Topic, TopicKind, Topics, is_node_id

__all__ = [
    "CONTRACT_VERSION",
    "NODE_ID",
    "Availability",
    "BootDevice",
    "BootIntent",
    "BootRequest",
    "Capability",
    "CommandError",
    "CommandStatus",
    "ConsoleAck",
    "ConsoleAction",
    "ConsoleReplay",
    "ConsoleRequest",
    "ConsoleState",
    "ContractError",
    "ErrorCode",
    "Event",
    "EventType",
    "FruFields",
    "IdentifyRequest",
    "IdentifyState",
    "NodeFault",
    "NodeInfo",
    "NodeState",
    "PowerAction",
    "PowerCommand",
    "PowerResult",
    "PowerState",
    "SensorInfo",
    "SensorKind",
    "ServiceInfo",
    "ServiceKind",
    "ServiceStats",
    "SolPosition",
    "Thresholds",
    "Topic",
    "TopicKind",
    "Topics",
    "is_node_id",
    "new_id",
    "parse_power_command",
    "utc_now",
]
