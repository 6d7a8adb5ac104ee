"""Messages as handlers see them and as publishers hand them over."""

from dataclasses import dataclass

UserProperties = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that came in."""

    topic: str
    payload: bytes
    retain: bool
    """The flag as the publisher set it (subscriptions use Retain As Published), or that it was replayed."""
    qos: int = 0
    response_topic: str | None = None
    correlation: bytes | None = None
    properties: UserProperties = ()


@dataclass(frozen=True, slots=True)
class PublishReceipt:
    """The broker's acknowledgement of a QoS 1 publish."""

    no_subscribers: bool = False
    """The broker said that nobody is subscribed (MQTT 5, and only some brokers say it)."""
