"""What one field alone can't tell: names and addresses that are there twice, patterns that fit nothing."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from pypmi.config.document import Document, Problem
from pypmi.config.document import Path as FieldPath
from pypmi.config.fleet import REMOTE_CONSOLE_ADDRESS, Fleet
from pypmi.config.hardware import Esp8266Hardware, GpioHardware
from pypmi.config.unfold import locate

Say = Callable[[FieldPath, str], None]


def cross_check(document: Document, origins: list[int], fleet: Fleet) -> list[Problem]:
    """Every mistake and warning that shows only in the whole."""
    problems: list[Problem] = []

    def add(loc: FieldPath, message: str, *, warning: bool) -> None:
        line, name = locate(document, origins, loc)
        problems.append(Problem(line, name, message, warning))

    def wrong(loc: FieldPath, message: str) -> None:
        add(loc, message, warning=False)

    def warn(loc: FieldPath, message: str) -> None:
        add(loc, message, warning=True)

    _check_ids(fleet, origins, wrong)
    _check_addresses(fleet, wrong, warn)
    _check_users(fleet, wrong, warn)
    _check_boards(fleet, warn)
    _check_lines(fleet, wrong)
    for index, node in enumerate(fleet.nodes):
        if node.hardware.type == "wol" and node.probe is None:
            warn(("nodes", index), f"{node.id}: without probe its power is always unknown")
    return problems


def _check_ids(fleet: Fleet, origins: list[int], wrong: Say) -> None:
    first: dict[str, int] = {}
    for index, node in enumerate(fleet.nodes):
        if node.id in first:
            wrong(("nodes", index, "id"), f"{node.id} is there twice (the other is nodes[{origins[first[node.id]]}])")
        first.setdefault(node.id, index)


def _check_addresses(fleet: Fleet, wrong: Say, warn: Say) -> None:
    addresses: dict[tuple[int, int], str] = {}
    listeners = dict.fromkeys(fleet.gateway.listen, "the gateway")
    for index, node in enumerate(fleet.nodes):
        if node.address is not None:
            other = addresses.setdefault((node.channel, node.address), node.id)
            if other != node.id:
                text = f"{node.address} on channel {node.channel} is {other}'s already; take a free one from 1 to 255"
                wrong(("nodes", index, "address"), text)
            if node.address == REMOTE_CONSOLE_ADDRESS:
                warn(("nodes", index, "address"), "129 (0x81) is what clients call themselves; better take another")
        if node.listen is not None:
            other = listeners.setdefault(node.listen, node.id)
            if other != node.id:
                wrong(("nodes", index, "listen"), f"{node.listen} is {other}'s already; give each a port of its own")


def _check_users(fleet: Fleet, wrong: Say, warn: Say) -> None:
    names: set[str] = set()
    for index, user in enumerate(fleet.users):
        if user.name in names:
            wrong(("users", index, "name"), f"{user.name} is there twice")
        names.add(user.name)
        for place, pattern in enumerate(user.nodes):
            if not any(fnmatchcase(node.id, pattern) for node in fleet.nodes):
                warn(("users", index, "nodes", place), f"{pattern} fits no node")
    if not fleet.users:
        warn(("users",), "no users: nobody can log in to the gateway")


def _check_boards(fleet: Fleet, warn: Say) -> None:
    """A board takes one connection, the newest: two nodes on it end each other's."""
    boards: dict[tuple[str, int], str] = {}
    for index, node in enumerate(fleet.nodes):
        if isinstance(node.hardware, Esp8266Hardware):
            place = (node.hardware.host.lower(), node.hardware.port)
            other = boards.setdefault(place, node.id)
            if other != node.id:
                text = f"{place[0]}:{place[1]} is the board of {other} already; it works for one node only"
                warn(("nodes", index, "hardware", "host"), text)


_GPIO_FIELDS = ("power_button", "reset_button", "nmi_button", "identify_led", "status")


def _check_lines(fleet: Fleet, wrong: Say) -> None:
    """A line of a GPIO chip can be wired to one thing: a second node's press would reach the first one's machine."""
    lines: dict[tuple[str, str, str], str] = {}
    for index, node in enumerate(fleet.nodes):
        if not isinstance(node.hardware, GpioHardware):
            continue
        for name in _GPIO_FIELDS:
            field = getattr(node.hardware, name)
            if field is None:
                continue
            use = f"{name} of {node.id}"
            other = lines.setdefault((node.agent_name, node.hardware.chip, _line_key(field.line)), use)
            if other != use:
                text = (
                    f"line {field.line} of {node.hardware.chip} is {other} already; each thing takes a line of its own"
                )
                wrong(("nodes", index, "hardware", name, "line"), text)


def _line_key(line: int | str) -> str:
    """BCM numbers and their usual names, `17` and `GPIO17`, are one line."""
    text = str(line).upper()
    return text.removeprefix("GPIO") if text.removeprefix("GPIO").isdigit() else text
