"""The locator light: its state, and the request to switch it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pypmi.contract.base import ContractError, Payload


class IdentifyState(StrEnum):
    """Of the locator light (IPMI 2.0 table 28-3, chassis identify state)."""

    OFF = "off"
    TIMED = "timed"
    ON = "on"


class IdentifyRequest(Payload):
    """An `identify/set` payload: `on` (until told otherwise), `off`, or a number of seconds."""

    seconds: Annotated[int, Field(ge=0, le=86_400)] | None
    """None: until told otherwise. 0: off."""

    @classmethod
    def parse(cls, payload: bytes) -> "IdentifyRequest":
        """Read the payload. Raises `ContractError`."""
        word = payload[:16].decode("utf-8", "replace").strip().lower()
        if len(payload) <= 16:
            if word == "on":
                return cls(seconds=None)
            if word == "off":
                return cls(seconds=0)
            if word.isascii() and word.isdigit() and int(word) <= 86_400:
                return cls(seconds=int(word))
        raise ContractError("identify/set takes on, off, or a number of seconds from 0 to 86400")

    def to_payload(self) -> bytes:
        """The bare word or number."""
        return b"on" if self.seconds is None else b"off" if self.seconds == 0 else str(self.seconds).encode()
