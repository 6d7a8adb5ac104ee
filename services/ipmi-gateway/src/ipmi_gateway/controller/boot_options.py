"""System boot options (sections 28.12-28.14): parameters as clients store them, and their way to the boot intent.

The flags (parameter 5) are kept bit for bit. What they mean to the machine is an `Intent`, which the node's agent
holds; when the agent says that it has been used up, or somebody else has changed it, the flags follow.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from pypmi.contract import BootDevice, BootIntent

from ipmi_gateway.store import Store

VALIDITY = 60.0
"""Seconds after which the flags lose their valid bit when no Chassis Control command has come (table 28-14)."""
PROGRESS_LIMIT = 60.0
"""Seconds after which a forgotten "set in progress" is let go."""
SETTLE = 5.0
"""Seconds that the agent's retained intent may take to show what was asked of it."""
CLEAR_RETRY = 5.0
"""Seconds between attempts to tell the agent that the flags have lost their validity."""
BLOCKS = 16
"""Initiator mailbox blocks, 16 octets each."""
BLOCK_SIZE = 16


class Parameter(IntEnum):
    """Boot option parameters (table 28-14)."""

    SET_IN_PROGRESS = 0
    SERVICE_PARTITION_SELECTOR = 1
    SERVICE_PARTITION_SCAN = 2
    VALID_BIT_CLEARING = 3
    INFO_ACKNOWLEDGE = 4
    FLAGS = 5
    INITIATOR_INFO = 6
    INITIATOR_MAILBOX = 7


SIZES = {
    Parameter.SERVICE_PARTITION_SELECTOR: 1,
    Parameter.SERVICE_PARTITION_SCAN: 1,
    Parameter.VALID_BIT_CLEARING: 1,
    Parameter.INFO_ACKNOWLEDGE: 2,
    Parameter.FLAGS: 5,
    Parameter.INITIATOR_INFO: 9,
}
"""Octets of each parameter's data; the mailbox has a block selector and up to 16 octets."""


class FlagBits(IntFlag):
    """Of the first octet of the flags."""

    VALID = 0x80
    PERSISTENT = 0x40
    EFI = 0x20


class ClearingBits(IntFlag):
    """Of parameter 3: what does not clear the valid bit."""

    ON_TIMEOUT = 0x08
    ON_WATCHDOG = 0x04


_SELECTORS = {
    0x0: BootDevice.NONE,
    0x1: BootDevice.PXE,
    0x2: BootDevice.DISK,
    0x3: BootDevice.SAFE,
    0x4: BootDevice.DIAG,
    0x5: BootDevice.CDROM,
    0x6: BootDevice.BIOS,
    0x7: BootDevice.REMOTE_FLOPPY,
    0x8: BootDevice.REMOTE_CDROM,
    0x9: BootDevice.REMOTE_MEDIA,
    0xB: BootDevice.REMOTE_DISK,
    0xF: BootDevice.FLOPPY,
}
_SELECTOR_OF = {device: selector for selector, device in _SELECTORS.items()}
NO_FLAGS = bytes(5)


@dataclass(frozen=True, slots=True)
class Intent:
    """What the flags ask of the machine. All intents without a device are equal in effect."""

    device: BootDevice = BootDevice.NONE
    persistent: bool = False
    efi: bool = False

    def same_effect(self, other: "Intent") -> bool:
        """Whether a machine would do the same."""
        return self == other or self.device is other.device is BootDevice.NONE


def intent_of(flags: bytes) -> Intent:
    """The meaning of a parameter 5. Raises `ValueError` for a reserved device selector."""
    selector = flags[1] >> 2 & 0x0F
    device = _SELECTORS.get(selector)
    if device is None:
        raise ValueError(f"boot device selector {selector:#x} is reserved")
    if not flags[0] & FlagBits.VALID or device is BootDevice.NONE:
        return Intent()
    return Intent(device, bool(flags[0] & FlagBits.PERSISTENT), bool(flags[0] & FlagBits.EFI))


def flags_of(intent: Intent) -> bytes:
    """The parameter 5 that stands for an intent that did not come from IPMI."""
    if intent.device is BootDevice.NONE:
        return NO_FLAGS
    first = FlagBits.VALID
    if intent.persistent:
        first |= FlagBits.PERSISTENT
    if intent.efi:
        first |= FlagBits.EFI
    return bytes((first, _SELECTOR_OF[intent.device] << 2, 0, 0, 0))


class BootOptions:
    """The boot options of one controller. `now` is monotonic, `wall` seconds since 1970."""

    def __init__(self, store: Store, node: str, now: float, wall: float) -> None:
        self._store = store
        self._node = node
        self._values = {number: store.get(node, f"boot.{number:d}") or bytes(size) for number, size in SIZES.items()}
        self._mailbox: dict[int, bytes] = {}
        for block in range(BLOCKS):
            kept = store.get(node, f"boot.mailbox.{block}")
            if kept:
                self._mailbox[block] = kept
        self._locked = set(store.get(node, "boot.invalid") or b"")
        self._progress_until: float | None = None
        self._confirmed = False
        self._held: BootIntent | None = None
        self._sent_at = float("-inf")
        self._deadline: float | None = None
        self._clear_at: float | None = None
        expires = store.get(node, "boot.expires")
        if expires is not None:
            self._deadline = now + min(max(float(expires) - wall, 0.0), VALIDITY)

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do next; None when nothing runs."""
        return self._deadline if self._clear_at is None else self._clear_at

    @property
    def flags(self) -> bytes:
        """Parameter 5, bit for bit."""
        return self._values[Parameter.FLAGS]

    def get(self, number: Parameter) -> bytes:
        """The data of parameters 1-6; write masks read as 0."""
        value = self._values[number]
        return bytes((0, value[1])) if number is Parameter.INFO_ACKNOWLEDGE else value

    def set(self, number: Parameter, value: bytes) -> None:
        """Store parameters 1-4 and 6; the flags take `set_flags`."""
        if number is Parameter.INFO_ACKNOWLEDGE:
            mask = value[0]
            value = bytes((0, self._values[number][1] & ~mask & 0xFF | value[1] & mask))
        if number is Parameter.VALID_BIT_CLEARING and value[0] & ClearingBits.ON_TIMEOUT:
            self._stop_timer()
        self._keep(number, value)

    def set_flags(self, flags: bytes, now: float, wall: float) -> None:
        """Store parameter 5, once the agent has taken what it means, and start the validity timer."""
        self._keep(Parameter.FLAGS, flags)
        self._confirmed = False
        self._sent_at = now
        self._clear_at = None
        self._stop_timer()
        if flags[0] & FlagBits.VALID and not self._values[Parameter.VALID_BIT_CLEARING][0] & ClearingBits.ON_TIMEOUT:
            self._start_timer(now, wall)

    def mailbox(self, block: int) -> bytes:
        """16 octets of the initiator mailbox."""
        return self._mailbox.get(block, bytes(BLOCK_SIZE))

    def set_mailbox(self, block: int, data: bytes) -> None:
        """Store the first octets of a mailbox block (0-15); the others stay."""
        value = data + self.mailbox(block)[len(data) :]
        self._mailbox[block] = value
        self._store.put(self._node, f"boot.mailbox.{block}", value)

    def is_locked(self, number: Parameter) -> bool:
        """Whether a client has marked the parameter invalid / locked."""
        return number in self._locked

    def set_locked(self, number: Parameter, locked: bool) -> None:
        """Mark a parameter invalid / locked, or valid again."""
        if locked:
            self._locked.add(number)
        else:
            self._locked.discard(number)
        self._store.put(self._node, "boot.invalid", bytes(sorted(self._locked)) or None)

    def in_progress(self, now: float) -> bool:
        """Whether a client is in the middle of changing parameters (parameter 0)."""
        return self._progress_until is not None and now < self._progress_until

    def set_progress(self, under_way: bool, now: float) -> None:
        """Begin or end a change of parameters."""
        self._progress_until = now + PROGRESS_LIMIT if under_way else None

    def observe(self, held: BootIntent | None, now: float) -> None:
        """Bring the flags into line with the intent that the agent says it holds (None: it has not said)."""
        if held is None or (held is self._held and self._confirmed):
            return  # nothing new; this comes with each request for the chassis status
        self._held = held
        seen = Intent(held.device, held.persistent, held.efi)
        if seen.same_effect(intent_of(self.flags)):
            self._confirmed = True
        elif self._clear_at is None and (self._confirmed or now - self._sent_at > SETTLE):
            self._keep(Parameter.FLAGS, flags_of(seen))
            self._confirmed = True
            self._stop_timer()

    def started(self, *, tracked: bool) -> None:
        """The machine was powered on or reset: a one-shot wish is used up, a persistent one is taken over.

        `tracked`: an agent holds the intent, and will say what became of it.
        """
        self._stop_timer()
        if not tracked and not self.flags[0] & FlagBits.PERSISTENT:
            self._keep(Parameter.FLAGS, NO_FLAGS)

    def restart_timer(self, now: float, wall: float) -> None:
        """A Chassis Control command came: the 60 seconds begin anew."""
        if self._deadline is not None:
            self._start_timer(now, wall)

    def lapse(self, now: float) -> None:
        """Clear the valid bit when its time is over; `expire` then says so to whoever has to tell the agent."""
        if self._deadline is None or now < self._deadline:
            return
        flags = self.flags
        meant_something = not intent_of(flags).same_effect(Intent())
        self._stop_timer()
        self._keep(Parameter.FLAGS, bytes((flags[0] & ~FlagBits.VALID & 0xFF,)) + flags[1:])
        if meant_something:
            self._clear_at = now

    def expire(self, now: float) -> bool:
        """Clear the valid bit when its time is over. True when the agent has to be told, now."""
        self.lapse(now)
        if self._clear_at is None or now < self._clear_at:
            return False
        self._clear_at = now + CLEAR_RETRY
        return True

    def cleared(self, now: float) -> None:
        """The agent has been told that the flags are no longer valid."""
        self._clear_at = None
        self._confirmed = False
        self._sent_at = now

    def reset(self) -> None:
        """The controller was reset: what is volatile goes."""
        self._progress_until = None

    def _keep(self, number: Parameter, value: bytes) -> None:
        self._values[number] = value
        self._store.put(self._node, f"boot.{number:d}", value if any(value) else None)

    def _start_timer(self, now: float, wall: float) -> None:
        self._deadline = now + VALIDITY
        self._store.put(self._node, "boot.expires", str(wall + VALIDITY).encode())

    def _stop_timer(self) -> None:
        self._deadline = None
        self._store.put(self._node, "boot.expires", None)
