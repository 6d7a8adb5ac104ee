"""How to reach the broker."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from pypmi.config.base import Section
from pypmi.config.secrets import SecretSource

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


class MqttSettings(Section):
    """How to reach the broker, the same for all services."""

    url: str = "mqtt://127.0.0.1:1883"
    """`mqtt://`, `mqtts://` (TLS), `ws://` or `wss://` (WebSocket), then the host, and the port unless it is the
    scheme's own (1883, 8883, 80, 443)."""
    protocol: Literal["5", "3.1.1"] = "5"
    """MQTT version. 5 unless the broker has only 3.1.1."""
    prefix: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$")] = ""
    """Stands before every topic, so that several fleets share one broker."""
    username: str | None = None
    """Account at the broker. null: without one (a broker that allows it is open to everybody who reaches it)."""
    password: SecretSource | None = None
    """Where the account's password is: `{file: PATH}` or `{env: NAME}`."""
    ca_file: Path | None = None
    """Certificate authority that signed the broker's certificate. null: the system's."""
    cert_file: Path | None = None
    """Client certificate, where the broker asks for one; with `key_file`."""
    key_file: Path | None = None
    """Key of the client certificate."""
    verify_host: bool = True
    """Check that the broker's certificate names the host in `url`."""
    keepalive: Annotated[int, Field(ge=5, le=600)] = 15
    """Seconds between signs of life. A dead connection is noticed after at most twice this."""
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds to wait for the broker's answer."""
    reconnect_max: Annotated[float, Field(ge=1, le=300)] = 5.0
    """Longest wait in seconds between two tries; the first is after 0.2 s, with jitter."""
    session_expiry: Annotated[int, Field(ge=0, le=60)] = 5
    """Seconds the broker waits before it says that this service is gone (MQTT 5: Will Delay and Session Expiry)."""
    max_pending: Annotated[int, Field(ge=100, le=1_000_000)] = 100_000
    """Most messages that may wait for the broker's acknowledgement."""
    max_payload: Annotated[int, Field(ge=16_384, le=16_777_216)] = 1_048_576
    """Octets. The broker is asked not to send larger messages (MQTT 5: Maximum Packet Size)."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError("starts with mqtt://, mqtts://, ws:// or wss://, as in mqtts://broker.lan:8883")
        if not parts.hostname:
            raise ValueError("names no host; write it as in mqtt://broker.lan:1883")
        if parts.username or parts.password:
            raise ValueError("holds an account; put it into username and password instead")
        _ = parts.port  # raises ValueError when it is no port
        return value

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.password is not None and self.username is None:
            raise ValueError("password without username")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("certificates are for mqtts:// and wss:// only")
        return self

    @property
    def host(self) -> str:
        """Host name or address of the broker."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port of the broker."""
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme in {"mqtts", "wss"}

    @property
    def websocket_path(self) -> str | None:
        """The path of a WebSocket URL; None for plain MQTT."""
        parts = urlsplit(self.url)
        return (parts.path or "/mqtt") if parts.scheme in {"ws", "wss"} else None
