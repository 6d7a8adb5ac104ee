"""House rules: who may import whom. The rules stand at the top; the rest reads the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "pypmi": ROOT / "shared/src/pypmi",
    "ipmi_gateway": ROOT / "services/ipmi-gateway/src/ipmi_gateway",
    "esp8266_agent": ROOT / "services/esp8266-agent/src/esp8266_agent",
    "rpi_gpio_agent": ROOT / "services/rpi-gpio-agent/src/rpi_gpio_agent",
    "sol_relay": ROOT / "services/sol-relay/src/sol_relay",
    "bmc_agent": ROOT / "services/bmc-agent/src/bmc_agent",
    "pypmi_simulator": ROOT / "services/simulator/src/pypmi_simulator",
    "pypmi_cli": ROOT / "cli/src/pypmi_cli",
}

MAY_IMPORT = {
    "pypmi": set(),
    # the tool starts the services, and looks at boards with the driver's own eyes
    "pypmi_cli": {"pypmi", "ipmi_gateway", "esp8266_agent"},
} | {
    service: {"pypmi"}
    for service in ("ipmi_gateway", "esp8266_agent", "rpi_gpio_agent", "sol_relay", "bmc_agent", "pypmi_simulator")
}

MQTT_LIBRARIES = {"paho", "aiomqtt", "gmqtt", "amqtt.client"}
MQTT_ALLOWED = {"pypmi.bus"}

# The gateway's layers, from the ground up; each may import those before it, and nothing above.
LAYERS = [
    {"codes", "timers"},
    {"packets"},
    {"settings", "events"},
    {"targets.base"},
    {"sessions"},
    {"store", "controller", "bmc", "sol"},
    {"commands", "directory", "bridging"},
    {"engine"},
    {"server", "audit", "metrics", "host"},
    {"targets"},
    {"gateway", "app", "__main__"},
]

# Protocol code takes bytes and time and returns bytes: it opens nothing and waits for nothing.
SANS_IO = ("packets", "sessions", "engine", "bridging", "sol.endpoint", "sol.packet")
IO_MODULES = {"socket", "asyncio", "threading", "subprocess", "selectors", "time", "sqlite3", "pypmi.bus"}

AGENT_LAYERS_FORBIDDEN = {
    # drivers know nothing of the runtime; power semantics nothing of drivers or of the bus
    "pypmi.power": {"pypmi.agent", "pypmi.bus", "pypmi.view"},
    "pypmi.contract": {"pypmi.bus", "pypmi.agent", "pypmi.power", "pypmi.config", "pypmi.view", "pypmi.service"},
    "pypmi.bus": {"pypmi.agent", "pypmi.power", "pypmi.view", "pypmi.service", "pypmi.config.fleet"},
}


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    base = PACKAGES[package]
    for path in sorted(base.rglob("*.py")):
        parts = [package, *path.relative_to(base).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(), str(path))


def imports(name: str, tree: ast.Module, *, is_package: bool) -> Iterator[str]:
    """Modules that are imported at run time, absolute; what is imported for types only does not count."""
    for node in walk_runtime(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = name.split(".")
                up = up[: len(up) - node.level + (1 if is_package else 0)]
                base = ".".join([*up, base]) if base else ".".join(up)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def walk_runtime(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from walk_runtime(node)


def all_imports() -> list[tuple[str, str]]:
    found = []
    for package, base in PACKAGES.items():
        for name, tree in modules(package):
            is_package = (base / Path(*name.split(".")[1:]) / "__init__.py").exists()
            found += [(name, imported) for imported in imports(name, tree, is_package=is_package)]
    return found


IMPORTS = all_imports()


def under(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def test_services_meet_only_on_the_bus():
    wrong = [
        f"{name} imports {imported}"
        for name, imported in IMPORTS
        for other in PACKAGES
        if under(imported, other) and not under(name, other) and other not in MAY_IMPORT[name.split(".")[0]]
    ]
    assert not wrong, wrong


def test_only_the_bus_imports_an_mqtt_client():
    wrong = [
        f"{name} imports {imported}"
        for name, imported in IMPORTS
        if any(under(imported, library) for library in MQTT_LIBRARIES)
        and not any(under(name, allowed) for allowed in MQTT_ALLOWED)
    ]
    assert not wrong, wrong


def layer(module: str) -> int | None:
    tail = module.removeprefix("ipmi_gateway").removeprefix(".")
    best = None
    for number, names in enumerate(LAYERS):
        for candidate in names:
            if under(tail, candidate) and (best is None or len(candidate) > best[1]):
                best = (number, len(candidate))
    return best[0] if best else None


def test_every_gateway_module_has_a_layer():
    missing = [name for name, _ in modules("ipmi_gateway") if name != "ipmi_gateway" and layer(name) is None]
    assert not missing, missing


def test_in_the_gateway_nothing_reaches_up():
    wrong = []
    for name, imported in IMPORTS:
        if under(name, "ipmi_gateway") and under(imported, "ipmi_gateway"):
            here, there = layer(name), layer(imported)
            if here is not None and there is not None and there > here:
                wrong.append(f"{name} (layer {here}) imports {imported} (layer {there})")
    assert not wrong, wrong


@pytest.mark.parametrize("part", SANS_IO)
def test_protocol_code_does_no_io(part):
    wrong = [
        f"{name} imports {imported}"
        for name, imported in IMPORTS
        if under(name, f"ipmi_gateway.{part}") and any(under(imported, module) for module in IO_MODULES)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("part", sorted(AGENT_LAYERS_FORBIDDEN))
def test_in_shared_the_ground_does_not_know_the_house(part):
    wrong = [
        f"{name} imports {imported}"
        for name, imported in IMPORTS
        if under(name, part) and any(under(imported, module) for module in AGENT_LAYERS_FORBIDDEN[part])
    ]
    assert not wrong, wrong


def test_the_rules_can_fail():
    """A rule that is never broken must be able to be: a made-up module that breaks each."""
    tree = ast.parse("import paho.mqtt.client\nfrom esp8266_agent import driver\n")
    found = list(imports("sol_relay.x", tree, is_package=False))
    assert "paho.mqtt.client" in found
    assert "esp8266_agent.driver" in found
