"""SOL configuration parameters (section 26.3, table 26-5): kept by number, as octets, in range."""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from ipmi_gateway.codes import Privilege
from ipmi_gateway.sol.endpoint import Timing


class Parameter(IntEnum):
    """Selectors."""

    SET_IN_PROGRESS = 0
    ENABLE = 1
    AUTHENTICATION = 2
    ACCUMULATE = 3
    RETRY = 4
    BIT_RATE = 5
    VOLATILE_BIT_RATE = 6
    PAYLOAD_CHANNEL = 7
    PAYLOAD_PORT = 8


SET_IN_PROGRESS_LIFE: Final = 60.0
"""Seconds after which a client that never said "set complete" is forgotten."""
FORCE_ENCRYPTION: Final = 0x80
FORCE_AUTHENTICATION: Final = 0x40
PRIVILEGE_MASK: Final = 0x0F
ACCUMULATE_UNIT: Final = 0.005
"""Seconds."""
RETRY_UNIT: Final = 0.01
"""Seconds."""
MAX_RETRIES: Final = 7
BIT_RATES: Final = frozenset((0x0, 0x6, 0x7, 0x8, 0x9, 0xA))
"""0: as the serial port is set; then 9600, 19200, 38400, 57600, 115200."""

_DEFAULTS: Final = {
    Parameter.ENABLE: bytes((1,)),
    Parameter.AUTHENTICATION: bytes((FORCE_ENCRYPTION | FORCE_AUTHENTICATION | Privilege.OPERATOR,)),
    Parameter.ACCUMULATE: bytes((1, 1)),
    Parameter.RETRY: bytes((MAX_RETRIES, 5)),
    Parameter.BIT_RATE: bytes((0xA,)),
    Parameter.VOLATILE_BIT_RATE: bytes((0xA,)),
}
_KEY: Final = "sol.{}"


class SolParameters:
    """The parameters of one controller. `load` and `keep` are its settings that outlive a restart."""

    def __init__(
        self,
        load: Callable[[str], bytes | None],
        keep: Callable[[str, bytes | None], None],
        *,
        allow_unencrypted: bool = False,
    ) -> None:
        self._keep = keep
        self._allow_unencrypted = allow_unencrypted
        self._values = dict(_DEFAULTS)
        self._in_progress_until = 0.0
        for parameter in _DEFAULTS:
            kept = load(_KEY.format(parameter.value))
            if kept is not None and parameter is not Parameter.VOLATILE_BIT_RATE and self.is_valid(parameter, kept):
                self._values[parameter] = kept

    def get(self, parameter: Parameter) -> bytes:
        """The octets of a parameter that is kept here. Raises KeyError for the others."""
        return self._values[parameter]

    def set(self, parameter: Parameter, value: bytes) -> None:
        """Change a parameter. Raises ValueError for what it can't be, KeyError for those not kept here."""
        if parameter not in self._values:
            raise KeyError(parameter)
        if not self.is_valid(parameter, value):
            raise ValueError(f"{parameter.name}: {value.hex()}")
        self._values[parameter] = value
        if parameter is Parameter.BIT_RATE:
            self._values[Parameter.VOLATILE_BIT_RATE] = value
        if parameter is not Parameter.VOLATILE_BIT_RATE:
            self._keep(_KEY.format(parameter.value), value)

    def is_valid(self, parameter: Parameter, value: bytes) -> bool:
        """Whether a parameter may have this value."""
        if len(value) != len(_DEFAULTS[parameter]):
            return False
        first = value[0]
        match parameter:
            case Parameter.ENABLE:
                return first <= 1
            case Parameter.AUTHENTICATION:
                forced = FORCE_AUTHENTICATION if self._allow_unencrypted else FORCE_ENCRYPTION | FORCE_AUTHENTICATION
                privilege = first & PRIVILEGE_MASK
                return (
                    first & forced == forced
                    and not first & 0x30
                    and Privilege.USER <= privilege <= Privilege.ADMINISTRATOR
                )
            case Parameter.ACCUMULATE:
                return first > 0 and value[1] > 0
            case Parameter.RETRY:
                return first <= MAX_RETRIES
            case _:
                return first in BIT_RATES

    def in_progress(self, now: float) -> bool:
        """Whether somebody is changing parameters."""
        return now < self._in_progress_until

    def begin(self, now: float) -> bool:
        """Somebody wants to change parameters. False when somebody else does already."""
        if self.in_progress(now):
            return False
        self._in_progress_until = now + SET_IN_PROGRESS_LIFE
        return True

    def complete(self) -> None:
        """Nobody is changing parameters any more."""
        self._in_progress_until = 0.0

    @property
    def enabled(self) -> bool:
        """SOL can be activated at all."""
        return bool(self._values[Parameter.ENABLE][0])

    @property
    def privilege(self) -> int:
        """The least level that may activate SOL."""
        return self._values[Parameter.AUTHENTICATION][0] & PRIVILEGE_MASK

    @property
    def force_encryption(self) -> bool:
        """Clients that ask for a payload without encryption are refused."""
        return bool(self._values[Parameter.AUTHENTICATION][0] & FORCE_ENCRYPTION)

    @property
    def timing(self) -> Timing:
        """Accumulate and retry parameters, as the endpoint takes them."""
        interval, threshold = self._values[Parameter.ACCUMULATE]
        retries, retry_interval = self._values[Parameter.RETRY]
        return Timing(
            accumulate=interval * ACCUMULATE_UNIT,
            threshold=threshold,
            retry_interval=max(1, retry_interval) * RETRY_UNIT,
            retries=retries,
        )
