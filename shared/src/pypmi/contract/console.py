"""Console streams: positions of bytes, requests to the relay, replay, and the console's retained state.

Bytes travel raw on `sol/rx` and `sol/tx`. Their place in the stream travels beside them as the MQTT 5 user
properties `stream` and `offset`; on 3.1.1 there are none, and receivers take the bytes as they come.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Base64Bytes, Field, StringConstraints

from pypmi.contract.base import CommandId, ContractError, Payload, ShortText, Timestamp

MAX_CHUNK = 16_384
"""Octets of console data in one message, on any topic."""


@dataclass(frozen=True, slots=True)
class SolPosition:
    """Where a chunk of console bytes stands: `offset` octets after the start of `stream`.

    A stream is one run of one producer (a relay's reading of a port, or a front end's session).
    """

    stream: str
    offset: int

    def to_properties(self) -> tuple[tuple[str, str], ...]:
        """As MQTT 5 user properties."""
        return (("stream", self.stream), ("offset", str(self.offset)))

    @classmethod
    def from_properties(cls, properties: tuple[tuple[str, str], ...]) -> "SolPosition | None":
        """From MQTT 5 user properties; None when the sender gave none. Raises `ContractError` when malformed."""
        values = dict(properties)
        if "stream" not in values and "offset" not in values:
            return None
        stream, offset = values.get("stream", ""), values.get("offset", "")
        if not (0 < len(stream) <= 64) or not (offset.isascii() and offset.isdigit() and len(offset) <= 18):
            raise ContractError("user properties: stream takes 1-64 characters and offset a number of octets")
        return cls(stream, int(offset))


class ConsoleAction(StrEnum):
    """What a front end may ask of the relay."""

    OPEN = "open"
    """A viewer is there. Repeated every minute; a viewer that is silent for three is forgotten."""
    CLOSE = "close"
    """The viewer has gone."""
    BREAK = "break"
    """Hold the line in the break state."""
    REPLAY = "replay"
    """Send what was said before."""


class ConsoleRequest(Payload):
    """A `sol/set` payload."""

    id: CommandId
    """Chosen by the sender, unique."""
    action: ConsoleAction
    """What to do."""
    viewer: ShortText | None = None
    """Who looks (open, close) or types (break): the same text as the `stream` of its `sol/tx` bytes."""
    stream: ShortText | None = None
    """replay: the stream asked for; None for whatever the relay holds."""
    offset: Annotated[int, Field(ge=0)] | None = None
    """replay: the first octet asked for; None for the last `length`."""
    length: Annotated[int, Field(ge=1, le=4_194_304)] = 4096
    """replay: how many octets at the most."""
    duration_ms: Annotated[int, Field(ge=1, le=5000)] = 250
    """break: how long the line is held."""
    reply_to: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """Where the answer goes; the same as MQTT 5's Response Topic, for 3.1.1 senders."""
    source: ShortText | None = None
    """The program that asks."""
    user: ShortText | None = None
    """The person or account behind it."""


class ConsoleReplay(Payload):
    """One piece of an answer to `replay`, sent to the request's response topic. JSON, so that 3.1.1 has it too."""

    id: CommandId
    """Of the request."""
    stream: ShortText
    """Of the bytes."""
    offset: Annotated[int, Field(ge=0)]
    """Of the first octet in `data`. Later than asked for when the older ones are no longer held."""
    data: Base64Bytes
    """The bytes, in Base64."""
    last: bool
    """No further piece follows."""


class ConsoleAck(Payload):
    """The relay's answer to input on `sol/tx` that has a response topic, and to a `break`.

    For input, `offset` and `written` count octets of the sender's stream. A sender keeps what lies behind `offset`
    and sends it again when the connection was lost; the relay drops what it has already.
    """

    id: CommandId
    """The correlation data of the input (MQTT 5), or the id of the request."""
    stream: ShortText | None = None
    """Whose input; None in the answer to a request."""
    offset: Annotated[int, Field(ge=0)] = 0
    """All octets before this one have reached the relay. Lower than what was sent: send again from here."""
    written: Annotated[int, Field(ge=0)] = 0
    """All octets before this one have been written to the port, or refused."""
    refused: Annotated[int, Field(ge=0)] = 0
    """Octets of the stream that were thrown away so far; `error` says why."""
    error: ShortText | None = None
    """Why octets were refused, or why the request failed; null when all is well."""


class ConsoleState(Payload):
    """The retained state of a node's console."""

    online: bool
    """The port is open."""
    relay: ShortText | None = None
    """The service name of the relay: while `services/<relay>/availability` is offline, so is the console."""
    can_break: bool = False
    """The port can send a break."""
    acks: bool = False
    """The relay answers positioned input with `ConsoleAck` (it does on MQTT 5)."""
    baud: int | None = None
    """Bits per second, where that is known."""
    viewers: int = 0
    """How many look."""
    writer: ShortText | None = None
    """Who may type, where only one may."""
    stream: ShortText
    """The stream that the relay is producing."""
    offset: Annotated[int, Field(ge=0)]
    """Octets produced so far in `stream`."""
    dropped: Annotated[int, Field(ge=0)] = 0
    """Octets lost so far between port and bus, each loss also marked in the stream."""
    error: ShortText | None = None
    """Why the port is not open."""
    at: Timestamp
    """When the relay said so."""
    epoch: ShortText
    """Of the relay's start."""
