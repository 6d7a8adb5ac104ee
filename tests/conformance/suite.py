"""All cases, in the order of the report."""

from . import boot, bridging, chassis, controller, discovery, handshake, packets, repositories, sessions, sol, tools
from .case import CASES, Case, Group

MODULES = (discovery, handshake, packets, sessions, chassis, boot, controller, repositories, bridging, sol, tools)


def all_cases() -> list[Case]:
    """Every case, grouped."""
    order = list(Group)
    return sorted(CASES, key=lambda case: order.index(case.group))
