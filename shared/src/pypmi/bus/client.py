"""paho's client as a `Link` needs it: made from the settings, and told to connect."""

import ssl
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from pypmi.bus.channel import Channel
from pypmi.config.mqtt import MqttSettings


class _Paho(paho.Client):
    """paho's client, on a socket that the link reads and writes too."""

    def _create_socket(self) -> Any:
        return Channel(super()._create_socket())


def make_client(
    settings: MqttSettings, client_id: str, password: str | None, will: tuple[str, bytes] | None
) -> paho.Client:
    """A client that is not connected yet. Raises `OSError` and `ssl.SSLError` for certificates that can't be read.

    Args:
        settings: where and how to connect.
        client_id: stable over restarts.
        password: the account's secret, already read.
        will: topic and payload, retained, that the broker publishes when the connection is lost.
    """
    version_5 = settings.protocol == "5"
    path = settings.websocket_path
    client = _Paho(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        # MQTT 5 has Clean Start instead; see `connect`
        clean_session=None if version_5 else True,
        protocol=paho.MQTTv5 if version_5 else paho.MQTTv311,
        transport="websockets" if path else "tcp",
        reconnect_on_failure=False,
    )
    if path:
        client.ws_set_options(path=path)
    if settings.username is not None:
        client.username_pw_set(settings.username, password)
    if settings.tls:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = settings.verify_host
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        client.tls_set_context(context)
    if will is not None:
        properties = None
        if version_5:
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = settings.session_expiry
        client.will_set(will[0], will[1], qos=1, retain=True, properties=properties)
    client.connect_timeout = settings.connect_timeout
    return client


def connect(client: paho.Client, settings: MqttSettings) -> None:
    """Resolve, connect, shake hands (TLS, WebSocket) and send CONNECT. Blocks; raises what paho raises."""
    if settings.protocol != "5":
        client.connect(settings.host, settings.port, settings.keepalive)
        return
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = settings.session_expiry
    properties.MaximumPacketSize = settings.max_payload + 1024
    # Clean Start 0: a quick return ends the will's delay instead of the session (contract, Connections).
    # Nothing queues meanwhile: command topics are subscribed at QoS 0.
    client.connect(settings.host, settings.port, settings.keepalive, clean_start=False, properties=properties)
