"""Where a node boots from: the request, and the intent that its agent keeps."""

from enum import StrEnum

from pypmi.contract.base import ContractError, Payload, ShortText, Timestamp


class BootDevice(StrEnum):
    """Where to boot from (IPMI 2.0 table 28-14, boot flags, data 2)."""

    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    SAFE = "safe"
    DIAG = "diag"
    CDROM = "cdrom"
    BIOS = "bios"
    FLOPPY = "floppy"
    REMOTE_FLOPPY = "remote_floppy"
    REMOTE_CDROM = "remote_cdrom"
    REMOTE_MEDIA = "remote_media"
    REMOTE_DISK = "remote_disk"


_BOOT_WORDS = frozenset(device.value for device in BootDevice)


class BootRequest(Payload):
    """A `boot/set` payload: a JSON object, or the bare name of a device (one-shot). `none` clears."""

    device: BootDevice
    """Where to boot from; `none` clears."""
    persistent: bool = False
    """For every boot, not just the next one."""
    efi: bool = False
    """In UEFI mode."""
    source: ShortText | None = None
    """The program that asks."""
    user: ShortText | None = None
    """The person or account behind it."""

    @classmethod
    def parse(cls, payload: bytes) -> "BootRequest":
        """Read either form. Raises `ContractError`."""
        word = payload[:32].decode("utf-8", "replace").strip().lower() if len(payload) <= 32 else ""
        if word in _BOOT_WORDS:
            return cls(device=BootDevice(word))
        if not payload.lstrip().startswith(b"{"):
            raise ContractError(f"boot/set takes one of the words {' '.join(BootDevice)}, or a JSON object with device")
        return cls.from_payload(payload)


class BootIntent(Payload):
    """The retained boot intent of a node. One-shot intents become `none` at the next power-on or reset."""

    device: BootDevice = BootDevice.NONE
    """Where the machine is to boot from."""
    persistent: bool = False
    """For every boot, not just the next one."""
    efi: bool = False
    """In UEFI mode."""
    at: Timestamp | None = None
    """When it was set."""
    source: ShortText | None = None
    """The program that asked."""
    user: ShortText | None = None
    """The person or account behind it."""
    epoch: ShortText
    """Of the agent's start."""
