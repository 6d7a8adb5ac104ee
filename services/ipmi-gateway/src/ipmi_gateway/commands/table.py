"""The whole table of what a management controller can be asked, but for what belongs to sessions (the engine's own)."""

from ipmi_gateway.commands import (
    app,
    boot,
    chassis,
    dcmi,
    event,
    fru,
    payload,
    pef,
    sdr,
    sel,
    sensor,
    system_info,
    transport,
    watchdog,
)
from ipmi_gateway.commands.registry import Registry


def build_registry(*others: Registry) -> Registry:
    """All commands of this package's modules, and those of `others` (SOL payloads, say)."""
    modules = (app, boot, chassis, dcmi, event, fru, payload, pef, sdr, sel, sensor, system_info, transport, watchdog)
    return Registry().include([module.registry for module in modules]).include(others)
