"""What every payload of the contract has in common: strictness, size limits, time stamps, ids and one error type."""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, StringConstraints, ValidationError

CONTRACT_VERSION = 1
"""Raised only when an old reader could misunderstand a new payload. New optional fields do not raise it."""

MAX_PAYLOAD = 65_536
"""Octets. Longer payloads are refused before they are parsed, whoever sends them."""

Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(
        lambda t: t.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        return_type=str,
        when_used="json",
    ),
]
"""RFC 3339 with a time zone; written in UTC with milliseconds."""

CommandId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
ShortText = Annotated[str, StringConstraints(max_length=128)]
LongText = Annotated[str, StringConstraints(max_length=1024)]


class ContractError(ValueError):
    """A payload or topic does not follow the contract. The message names the field and what is wrong with it."""


class Payload(BaseModel):
    """Base of all payload models.

    Unknown fields are ignored, so that a newer neighbour may add some (mixed versions keep working).
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Parse a JSON payload; raise `ContractError` with a message for the log when it is not one of these."""
        if len(payload) > MAX_PAYLOAD:
            raise ContractError(f"payload of {len(payload)} octets is longer than {MAX_PAYLOAD}")
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise ContractError(explain(error)) from None

    def to_payload(self) -> bytes:
        """The JSON text, UTF-8, with absent optional fields as null so that templates always find the key."""
        return self.model_dump_json().encode()


def explain(error: ValidationError) -> str:
    """Say in one line which fields are wrong and why, without echoing the input (it may hold a secret)."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'payload'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)[:4]
    )


def utc_now() -> datetime:
    """The wall clock in UTC, to the millisecond as payloads have it.

    Deadlines inside one process use a monotonic clock instead.
    """
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def new_id() -> str:
    """A fresh id for a command, an event, an epoch or a console stream: 16 hexadecimal digits, unpredictable."""
    return secrets.token_hex(8)
