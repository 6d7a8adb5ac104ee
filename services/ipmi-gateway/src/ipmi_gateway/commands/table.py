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


def build_registry(*others: Registry, with_watchdog: bool = True) -> Registry:
    """All commands of this package's modules, and those of `others` (SOL payloads, say).

    Without the watchdog's they are answered C1h: a countdown must not run in one process and be reset in another.
    """
    modules = [app, boot, chassis, dcmi, event, fru, payload, pef, sdr, sel, sensor, system_info, transport]
    if with_watchdog:
        modules.append(watchdog)
    return Registry().include([module.registry for module in modules]).include(others)
