"""Watchdog timer commands (section 27)."""

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.watchdog import Interrupt, Setting, WatchdogAction

registry = Registry()

RESET_WATCHDOG, SET_WATCHDOG, GET_WATCHDOG = 0x22, 0x24, 0x25
NOT_INITIALISED = 0x80
"""Completion code of Reset Watchdog Timer before the timer was ever set."""
_DONT_LOG, _DONT_STOP, _RUNNING = 0x80, 0x40, 0x40
_USES = range(1, 6)
_RESERVED_USE_BITS = 0x38
_RESERVED_ACTION_BITS = 0x88


@registry.add(NetFn.APP, SET_WATCHDOG, Privilege.OPERATOR, 6, changes=True)
def set_watchdog(request: Request) -> bytes:
    """Set Watchdog Timer (section 27.6). It counts only after Reset Watchdog Timer."""
    use, actions, pre_timeout, clear_flags = request.data[:4]
    countdown = int.from_bytes(request.data[4:6], "little")
    if use & 0x07 not in _USES or use & _RESERVED_USE_BITS or actions & _RESERVED_ACTION_BITS:
        raise CompletionError(Code.INVALID_FIELD)
    try:
        setting = Setting(
            use=use & 0x07,
            log=not use & _DONT_LOG,
            action=WatchdogAction(actions & 0x07),
            interrupt=Interrupt(actions >> 4 & 0x07),
            pre_timeout=pre_timeout,
            countdown=countdown,
        )
    except ValueError as error:
        raise CompletionError(Code.INVALID_FIELD) from error
    if setting.interrupt and pre_timeout * 10 > countdown:
        raise CompletionError(Code.INVALID_FIELD)
    controller = request.bmc.controller
    controller.watchdog.set(setting, keep_running=bool(use & _DONT_STOP), clear_flags=clear_flags, now=request.now)
    controller.arm()
    return b""


@registry.add(NetFn.APP, RESET_WATCHDOG, Privilege.OPERATOR, changes=True)
def reset_watchdog(request: Request) -> bytes:
    """Reset Watchdog Timer (section 27.5): start, or start again, from the initial countdown value."""
    controller = request.bmc.controller
    if not controller.watchdog.start(request.now):
        raise CompletionError(NOT_INITIALISED)
    controller.arm()
    return b""


@registry.add(NetFn.APP, GET_WATCHDOG, Privilege.USER)
def get_watchdog(request: Request) -> bytes:
    """Get Watchdog Timer (section 27.7)."""
    watchdog = request.bmc.controller.watchdog
    setting = watchdog.setting or Setting()
    use = setting.use | (0 if setting.log else _DONT_LOG) | (_RUNNING if watchdog.running else 0)
    return (
        bytes((use, setting.interrupt << 4 | setting.action, setting.pre_timeout, watchdog.expired))
        + setting.countdown.to_bytes(2, "little")
        + watchdog.present(request.now).to_bytes(2, "little")
    )
