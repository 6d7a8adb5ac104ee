"""One console as the relay needs it: node, port, ring, log, rules."""

from dataclasses import dataclass
from typing import Literal

from pypmi.config.fleet import NodeSettings

from sol_relay.links import PortTarget, target_of


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """What can be set for a console, with all defaults filled in."""

    node_id: str
    target: PortTarget
    ring: int = 262_144
    """Octets."""
    log: bool = True
    log_size: int = 4_194_304
    """Octets."""
    log_files: int = 4
    writers: Literal["all", "one"] = "all"

    @classmethod
    def of(cls, node: NodeSettings) -> "ConsoleConfig":
        """From the fleet's configuration. Raises `ValueError` for a node without a console."""
        console = node.console
        if console is None:
            raise ValueError(f"node {node.id} has no console")
        return cls(
            node.id, target_of(node, console), console.ring, console.log, console.log_size, console.log_files,
            console.writers,
        )  # fmt: skip
