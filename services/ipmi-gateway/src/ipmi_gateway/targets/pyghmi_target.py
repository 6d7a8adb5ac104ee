"""Any object with the methods of pyghmi's `Bmc` as a target, the way pypmi of 2019 took them.

    class Machine:
        def get_power_state(self): return "on"
        def power_on(self): ...

    gateway.add_target(1, Machine())

All methods are optional, and may block: they are called in threads. What is missing, or raises
`NotImplementedError`, is answered as not supported. `power_*` may return a completion code, as with pyghmi.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from pypmi.contract import (
    BootDevice,
    BootIntent,
    Capability,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerState,
    new_id,
    utc_now,
)

from ipmi_gateway.codes import Code
from ipmi_gateway.targets.base import (
    Origin,
    TargetBusyError,
    TargetError,
    TargetStateError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnsupportedError,
)

log = logging.getLogger(__name__)

ACCEPT_WITHIN: Final = 0.5
"""Seconds after which an action that is still running counts as accepted: clients wait for no button."""
READ_WITHIN: Final = 4.0
"""Seconds that reading the power state may take."""

_METHODS: Final = {
    PowerAction.ON: "power_on",
    PowerAction.OFF: "power_off",
    PowerAction.CYCLE: "power_cycle",
    PowerAction.RESET: "power_reset",
    PowerAction.DIAG: "pulse_diag",
    PowerAction.SOFT: "power_shutdown",
}
_BOOT_NAMES: Final = {
    BootDevice.NONE: "default",
    BootDevice.PXE: "network",
    BootDevice.DISK: "hd",
    BootDevice.SAFE: "safe",
    BootDevice.CDROM: "optical",
    BootDevice.BIOS: "setup",
    BootDevice.FLOPPY: "floppy",
}
_BOOT_DEVICES: Final[dict[object, BootDevice]] = {
    **{name: device for device, name in _BOOT_NAMES.items()},
    "net": BootDevice.PXE,
    "pxe": BootDevice.PXE,
    "cd": BootDevice.CDROM,
    "cdrom": BootDevice.CDROM,
    "dvd": BootDevice.CDROM,
    "disk": BootDevice.DISK,
    "usb": BootDevice.FLOPPY,
    "bios": BootDevice.BIOS,
    # pyghmi's numbers: the second octet of the boot flags
    0x00: BootDevice.NONE,
    0x04: BootDevice.PXE,
    0x08: BootDevice.DISK,
    0x0C: BootDevice.SAFE,
    0x14: BootDevice.CDROM,
    0x18: BootDevice.BIOS,
    0x3C: BootDevice.FLOPPY,
}
_FROM_CODES: Final[dict[int, type[TargetError]]] = {
    Code.NODE_BUSY: TargetBusyError,
    Code.TIMEOUT: TargetTimeoutError,
    Code.DESTINATION_UNAVAILABLE: TargetUnavailableError,
    Code.NOT_IN_PRESENT_STATE: TargetStateError,
    Code.INVALID_COMMAND: TargetUnsupportedError,
    Code.INVALID_FIELD: TargetUnsupportedError,
}
_PYGHMI_BASE: Final = "pyghmi.ipmi.bmc"
"""Where the methods that only raise `NotImplementedError` come from."""


class PyghmiTarget:
    """A `Target` around `machine`. `refresh` reads it; the properties tell what was read last."""

    def __init__(self, node_id: str, machine: object) -> None:
        self._node_id = node_id
        self._machine = machine
        self._epoch = new_id()
        self._state: NodeState | None = None
        self._boot: BootIntent | None = None
        self._asked = (BootDevice.NONE, False, False)
        self._last_action: PowerAction | None = None
        self._action: tuple[PowerAction, asyncio.Task[None]] | None = None
        self._reading: asyncio.Task[tuple[PowerState, BootDevice | None]] | None = None
        capabilities = {Capability(action.value) for action, name in _METHODS.items() if self._method(name)}
        if self._method("get_power_state"):
            capabilities.add(Capability.STATUS)
        if self._method("set_boot_device"):
            capabilities.add(Capability.BOOT)
        if self._method("set_identify"):
            capabilities.add(Capability.IDENTIFY)
        self._info = NodeInfo(
            name=node_id,
            agent="in-process",
            driver=type(machine).__name__[:128],
            capabilities=frozenset(capabilities),
            epoch=self._epoch,
        )

    @property
    def node_id(self) -> str:
        """As given to the constructor."""
        return self._node_id

    @property
    def available(self) -> bool:
        """An object in this process is always there."""
        return True

    @property
    def state(self) -> NodeState | None:
        """As `refresh` has read it last."""
        return self._state

    @property
    def info(self) -> NodeInfo:
        """What the object's methods tell of it."""
        return self._info

    @property
    def boot(self) -> BootIntent | None:
        """As `refresh` has read it last; None for objects without `get_boot_device`.

        An object that boots once from a device must itself say `default` after that.
        """
        return self._boot

    def sensor(self, key: str) -> float | None:  # noqa: ARG002 - the protocol's signature
        """Such objects have no sensors."""
        return None

    async def refresh(self) -> None:
        """Read power state and boot device. Raises `TargetError`; the state is then unknown."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._read), name=f"read {self._node_id}")
        try:
            # Shielded: others may wait for the same reading, and a thread can't be stopped anyway.
            power, device = await asyncio.wait_for(asyncio.shield(self._reading), READ_WITHIN)
        except TimeoutError:
            self._state = None
            raise TargetTimeoutError(f"{self._node_id}: get_power_state took over {READ_WITHIN} s") from None
        except TargetError:
            self._state = None
            raise
        self._note(power)
        if device is not None:
            asked, persistent, efi = self._asked
            same = device is asked
            self._boot = BootIntent(device=device, persistent=same and persistent, efi=same and efi, epoch=self._epoch)

    def _read(self) -> tuple[PowerState, BootDevice | None]:
        value = self._call("get_power_state")
        if isinstance(value, str):
            value = value.strip().lower()
        if value in ("on", 1, True):
            power = PowerState.ON
        elif value in ("off", 0, False):
            power = PowerState.OFF
        else:
            power = PowerState.UNKNOWN
        try:
            device = self._call("get_boot_device")
        except TargetUnsupportedError:
            return power, None
        if isinstance(device, dict):
            device = device.get("bootdev")
        if isinstance(device, str):
            device = device.strip().lower()
        return power, _BOOT_DEVICES.get(device) if isinstance(device, str | int) else None

    def _note(self, power: PowerState) -> None:
        before, now = self._state, utc_now()
        on_seconds, since, cause = 0, None, "unknown"
        if before is not None:
            on_seconds, since, cause = before.on_seconds, before.since, before.cause or "unknown"
            if before.power is PowerState.ON:
                on_seconds += max(round((now - before.at).total_seconds()), 0)
            if before.power is not power:
                since, cause = now, "command" if self._last_action is not None else "external"
                self._last_action = None
        self._state = NodeState(
            power=power,
            since=since,
            cause=cause,
            on_seconds=on_seconds,
            at=now,
            epoch=self._epoch,
            seq=before.seq + 1 if before is not None else 0,
        )

    async def power(self, action: PowerAction, origin: Origin) -> None:  # noqa: ARG002
        """Call the method; one action at a time. Raises `TargetError`."""
        if self._action is not None and not self._action[1].done():
            if self._action[0] is action:
                return
            raise TargetBusyError(f"{self._node_id}: {self._action[0]} is under way")
        self._last_action = action
        await self._start(action, _METHODS[action])

    async def _start(self, action: PowerAction, name: str) -> None:
        task = asyncio.create_task(asyncio.to_thread(self._do, name), name=f"{name} of {self._node_id}")
        self._action = (action, task)
        done, _pending = await asyncio.wait({task}, timeout=ACCEPT_WITHIN)
        if done:
            task.result()
        else:
            task.add_done_callback(_log_failure)

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:  # noqa: ARG002
        """Call `set_boot_device` with pyghmi's name of the device. Raises `TargetError`."""
        name = _BOOT_NAMES.get(device)
        if name is None:
            raise TargetUnsupportedError(f"{self._node_id}: pyghmi has no name for {device}")
        await self._in_thread("set_boot_device", name)
        self._asked = (device, persistent, efi)

    async def identify(self, seconds: int | None, origin: Origin) -> None:  # noqa: ARG002
        """Call `set_identify(on, duration)`, as pyghmi's client has it. Raises `TargetError`."""
        await self._in_thread("set_identify", seconds != 0, seconds)

    async def reset_controller(self, *, cold: bool, origin: Origin) -> None:  # noqa: ARG002
        """Call `cold_reset` where there is one. Raises `TargetError`."""
        if cold and self._method("cold_reset"):
            await self._in_thread("cold_reset")

    async def _in_thread(self, name: str, *arguments: object) -> None:
        try:
            await asyncio.wait_for(asyncio.to_thread(self._do, name, *arguments), READ_WITHIN)
        except TimeoutError:
            raise TargetTimeoutError(f"{self._node_id}: {name} took over {READ_WITHIN} s") from None

    def _method(self, name: str) -> Callable[..., Any] | None:
        method = getattr(self._machine, name, None)
        if not callable(method) or getattr(method, "__module__", None) == _PYGHMI_BASE:
            return None
        return method  # type: ignore[no-any-return]

    def _do(self, name: str, *arguments: object) -> None:
        """In a thread: call a method whose result is a completion code or nothing."""
        code = self._call(name, *arguments)
        if isinstance(code, int) and not isinstance(code, bool) and code:
            raise _FROM_CODES.get(code, TargetError)(f"{self._node_id}: {name} returned {code:#04x}")

    def _call(self, name: str, *arguments: object) -> Any:
        """In a thread: call a method of an object that others wrote, and let nothing but `TargetError` through."""
        method = self._method(name)
        if method is None:
            raise TargetUnsupportedError(f"{self._node_id} has no {name}")
        try:
            return method(*arguments)
        except TargetError:
            raise
        except NotImplementedError as error:
            raise TargetUnsupportedError(f"{self._node_id}: {name} is not implemented") from error
        except TimeoutError as error:
            raise TargetTimeoutError(f"{self._node_id}: {name}: {error}") from error
        except OSError as error:
            raise TargetUnavailableError(f"{self._node_id}: {name}: {error}") from error
        except (Exception, SystemExit) as error:
            # Whatever it raises is its own affair: pyghmi's fakebmc ends the process in cold_reset.
            log.exception("%s: %s failed", self._node_id, name)
            raise TargetError(f"{self._node_id}: {name}: {error!r}") from error


def _log_failure(task: "asyncio.Task[None]") -> None:
    """An action that had been answered as accepted came to a bad end."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed after it was accepted: %s", task.get_name(), error)
