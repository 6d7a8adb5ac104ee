"""All cases, in the order of the report."""

from . import discovery, handshake, packets, sessions
from .case import CASES, Case, Group

MODULES = (discovery, handshake, packets, sessions)


def all_cases() -> list[Case]:
    """Every case, grouped."""
    order = list(Group)
    return sorted(CASES, key=lambda case: order.index(case.group))
