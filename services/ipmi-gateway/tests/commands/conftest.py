"""A machine in memory that keeps the rules of an agent, controllers over it, and a way to dispatch requests."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Privilege
from ipmi_gateway.commands.registry import CompletionError, Request
from ipmi_gateway.commands.table import build_registry
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.store import Store
from ipmi_gateway.targets.base import Origin, TargetError, TargetUnavailableError, TargetUnsupportedError
from pypmi.contract import (
    BootDevice,
    BootIntent,
    Capability,
    FruFields,
    IdentifyState,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerState,
    SensorInfo,
    SensorKind,
    Thresholds,
    utc_now,
)

EPOCH = "e1"
SENSORS = (
    SensorInfo(
        key="inlet",
        name="Inlet Temp",
        kind=SensorKind.TEMPERATURE,
        unit="°C",
        minimum=-20,
        maximum=100,
        thresholds=Thresholds(upper_non_critical=60, upper_critical=70, lower_critical=-10),
    ),
    SensorInfo(key="v12", name="12V", kind=SensorKind.VOLTAGE, unit="V", minimum=0, maximum=16),
    SensorInfo(key="power", name="Input Power", kind=SensorKind.POWER, unit="W", minimum=0, maximum=500),
    SensorInfo(key="rssi", name="WLAN Signal", kind=SensorKind.SIGNAL, unit="dBm"),
    SensorInfo(key="fan", name="Fan 1", kind=SensorKind.FAN, unit="RPM"),
)
FRU = FruFields(
    manufacturer="ACME Corp",
    product="Rack Server 9000",
    part_number="RS-9000",
    serial="SN12345",
    version="B",
    asset_tag="LAB-42",
    board_manufacturer="ACME Boards",
    board_product="Main Board",
    board_serial="MB-1",
    board_part_number="X",
    chassis_part_number="CH-1",
    chassis_serial="CH-SN-9",
)


class MemoryMachine:
    """A `Target`: takes actions at once, holds the boot intent and uses it up, as an agent does."""

    def __init__(self, node_id: str = "node1", *, power: PowerState = PowerState.OFF, sensors: Any = SENSORS) -> None:
        self.node_id = node_id
        self.available = True
        self.values: dict[str, float] = {"inlet": 23.5, "v12": 12.06, "power": 187.0, "rssi": -61.0, "fan": 4200.0}
        self.calls: list[tuple[Any, ...]] = []
        self.failure: TargetError | None = None
        self.boot: BootIntent | None = BootIntent(epoch=EPOCH)
        self._state: NodeState | None = NodeState(power=power, on_seconds=7200, at=utc_now(), epoch=EPOCH)
        self.info: NodeInfo | None = NodeInfo(
            name=f"{node_id} in rack 1",
            agent="test-agent",
            driver="memory",
            capabilities=frozenset(Capability),
            sensors=sensors,
            fru=FRU,
            firmware="fw-3.1",
            url="http://node1.example/",
            epoch=EPOCH,
        )

    @property
    def state(self) -> NodeState | None:
        return self._state if self.available else None

    @state.setter
    def state(self, value: NodeState | None) -> None:
        self._state = value

    def change(self, **fields: Any) -> None:
        assert self._state is not None
        self._state = self._state.model_copy(update={"at": utc_now(), **fields})

    def sensor(self, key: str) -> float | None:
        return self.values.get(key)

    def _take(self, *call: Any) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.available:
            raise TargetUnavailableError("away")
        self.calls.append(call)

    async def power(self, action: PowerAction, origin: Origin) -> None:
        self._take("power", action, origin)
        if action in {PowerAction.ON, PowerAction.RESET, PowerAction.CYCLE}:
            if self.boot is not None and not self.boot.persistent:
                self.boot = BootIntent(epoch=EPOCH)
            self.change(power=PowerState.ON, cause="command")
        elif action in {PowerAction.OFF, PowerAction.SOFT}:
            self.change(power=PowerState.OFF, cause="command")

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:
        self._take("set_boot", device, persistent, efi, origin)
        self.boot = BootIntent(device=device, persistent=persistent, efi=efi, at=utc_now(), epoch=EPOCH)

    async def identify(self, seconds: int | None, origin: Origin) -> None:
        if self.info is not None and Capability.IDENTIFY not in self.info.capabilities:
            raise TargetUnsupportedError("no light")
        self._take("identify", seconds, origin)
        lit = IdentifyState.ON if seconds is None else IdentifyState.TIMED if seconds else IdentifyState.OFF
        self.change(identify=lit)


@dataclass
class Clock:
    """Monotonic and wall time that only move when told."""

    now: float = 1000.0
    wall: float = 1_790_000_000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@dataclass
class Console:
    """Dispatches requests the way the engine does, and tells code and data."""

    bmc: Bmc
    clock: Clock
    registry: Any = field(default_factory=build_registry)

    async def ask(
        self,
        netfn: int,
        command: int,
        *data: int,
        privilege: Privilege = Privilege.ADMINISTRATOR,
        bmc: Bmc | None = None,
        lun: int = 0,
    ) -> tuple[int, bytes]:
        request = Request(netfn, command, bytes(data), bmc or self.bmc, None, self.clock.now, lun=lun)
        try:
            answer = self.registry.dispatch(request, privilege)
            if inspect.isawaitable(answer):
                answer = await asyncio.wait_for(answer, 10)
        except CompletionError as error:
            return error.code, error.data
        return 0, answer

    async def ok(self, netfn: int, command: int, *data: int, **options: Any) -> bytes:
        code, answer = await self.ask(netfn, command, *data, **options)
        assert code == 0, f"completion code {code:#04x}"
        return answer

    async def code(self, netfn: int, command: int, *data: int, **options: Any) -> int:
        return (await self.ask(netfn, command, *data, **options))[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Any:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def fleet(clock: Clock, store: Store) -> Fleet:
    return Fleet(store=store, wall=lambda: clock.wall, clock=lambda: clock.now, sel_capacity=20)


@pytest.fixture
def machine() -> MemoryMachine:
    return MemoryMachine()


@pytest.fixture
def make_machine() -> Callable[..., MemoryMachine]:
    return MemoryMachine


@pytest.fixture
def console(fleet: Fleet, machine: MemoryMachine, clock: Clock) -> Console:
    return Console(Bmc.create(fleet, "node1", machine, address=0x30, channel=2), clock)
