"""The way to the broker: name, port, TLS, login. Each link is tried by itself, so that the right one is named."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

from pypmi.bus import Bus
from pypmi.config.mqtt import MqttSettings

from pypmi_cli.access import Access
from pypmi_cli.doctor.findings import Link, Report

_TIMEOUT = 4.0
_CONNACK = 0x20
_CONNECT_311 = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
"""A CONNECT of MQTT 3.1.1 with an empty client id and no account: any broker answers it with a CONNACK."""


async def examine_broker(report: Report, access: Access) -> bool:
    """Look at each link up to the login; returns whether all of them hold."""
    mqtt = access.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    addresses = await _resolve(report, mqtt)
    if not addresses:
        return False
    if not await _reach(report, mqtt, addresses):
        return False
    if mqtt.tls:
        if not await _handshake(report, mqtt, access.base):
            return False
    elif mqtt.host not in {"localhost", "127.0.0.1", "::1"} and mqtt.username is not None:
        report.warn(
            Link.TLS, "no-tls", f"the connection to {where} is not encrypted: passwords and consoles can be read",
            "use mqtts:// (`pypmi init` makes the certificates)",
        )  # fmt: skip
    return await _login(report, access)


async def _resolve(report: Report, mqtt: MqttSettings) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(mqtt.host, mqtt.port, type=socket.SOCK_STREAM)
    except OSError as error:
        report.fault(
            Link.DNS, "dns", f"the broker's name {mqtt.host} is not known here: {error.strerror or error}",
            "correct the host in mqtt.url (or --mqtt), or enter the name into DNS or /etc/hosts",
        )  # fmt: skip
        return []
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    report.ok(Link.DNS, f"{mqtt.host} is {', '.join(addresses)}" if mqtt.host not in addresses else mqtt.host)
    return addresses


async def _reach(report: Report, mqtt: MqttSettings, addresses: list[str]) -> bool:
    why: list[str] = []
    refused = False
    for address in addresses:
        try:
            async with asyncio.timeout(_TIMEOUT):
                _, writer = await asyncio.open_connection(address, mqtt.port)
        except TimeoutError:
            why.append(f"{address}: no answer")
        except OSError as error:
            refused = refused or isinstance(error, ConnectionRefusedError)
            why.append(f"{address}: {os.strerror(error.errno) if error.errno else error}")
        else:
            writer.close()
            report.ok(Link.BROKER, f"TCP port {mqtt.port} of {address} is open")
            return True
    text = f"nothing answers on TCP port {mqtt.port} of {mqtt.host} ({'; '.join(why)})"
    if refused:
        fix = "start the broker there, or correct the port in mqtt.url; `ss -ltn` on its machine shows what listens"
        report.fault(Link.BROKER, "broker-refused", text, fix)
    else:
        fix = "is the machine on, and does its firewall let this port through?"
        report.fault(Link.BROKER, "broker-unreachable", text, fix)
    return False


async def _handshake(report: Report, mqtt: MqttSettings, base: Path | None) -> bool:
    folder = base or Path()
    try:
        context = ssl.create_default_context(cafile=folder / mqtt.ca_file if mqtt.ca_file else None)
        if mqtt.cert_file is not None:
            context.load_cert_chain(folder / mqtt.cert_file, folder / mqtt.key_file if mqtt.key_file else None)
    except (OSError, ssl.SSLError) as error:
        report.fault(
            Link.TLS, "certificate-unusable", f"a certificate of ours can't be used: {error}",
            "mqtt.ca_file must be a certificate in PEM form, as tls/ca.crt of `pypmi init`",
        )  # fmt: skip
        return False
    context.check_hostname = mqtt.verify_host
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(mqtt.host, mqtt.port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        _explain_certificate(report, mqtt, error)
        return False
    except (TimeoutError, OSError) as error:
        if await _speaks_plain_mqtt(mqtt):
            report.fault(
                Link.TLS, "plain-broker", f"the broker at {mqtt.host}:{mqtt.port} speaks MQTT without TLS there",
                "use mqtt:// in mqtt.url for this port, or the broker's TLS port (mostly 8883)",
            )  # fmt: skip
        else:
            report.fault(
                Link.TLS, "tls", f"no TLS at {mqtt.host}:{mqtt.port}: {error or 'no answer'}",
                "is it the broker's TLS port? Its log has the reason from its side",
            )  # fmt: skip
        return False
    writer.close()
    report.ok(Link.TLS, f"the broker's certificate is good for {mqtt.host}")
    return True


_HOSTNAME_MISMATCH, _IP_MISMATCH = 62, 64
_NOT_YET_VALID, _EXPIRED = 9, 10


def _explain_certificate(report: Report, mqtt: MqttSettings, error: ssl.SSLCertVerificationError) -> None:
    said = error.verify_message or str(error)
    if error.verify_code in {_HOSTNAME_MISMATCH, _IP_MISMATCH}:
        report.fault(
            Link.TLS, "certificate-name", f"the broker's certificate is not for {mqtt.host}: {said}",
            f"`pypmi init --host {mqtt.host}` and restart the broker; or use a name in mqtt.url that it is for",
        )  # fmt: skip
    elif error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        report.fault(
            Link.TLS, "certificate-expired", f"the broker's certificate is out of its time: {said}",
            "is this machine's clock right (`date`)? Else `pypmi init` makes a new certificate; restart the broker",
        )  # fmt: skip
    else:
        by = f"the authority in {mqtt.ca_file}" if mqtt.ca_file else "an authority that this system knows"
        report.fault(
            Link.TLS, "certificate-authority", f"the broker's certificate is not signed by {by}: {said}",
            "give tls/ca.crt of the fleet whose broker this is (mqtt.ca_file, --ca-file); if the address is right:"
            " somebody else answers there",
        )  # fmt: skip


async def _speaks_plain_mqtt(mqtt: MqttSettings) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(mqtt.host, mqtt.port)
            try:
                writer.write(_CONNECT_311)
                return (await reader.read(4))[:1] == bytes((_CONNACK,))
            finally:
                writer.close()
    except (TimeoutError, OSError):
        return False


async def _speaks_tls(mqtt: MqttSettings) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only whether TLS is spoken counts
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(mqtt.host, mqtt.port, ssl=context)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True


async def _login(report: Report, access: Access) -> bool:
    mqtt = access.mqtt
    who = f"account {mqtt.username}" if mqtt.username else "no account"
    error = await _try(mqtt, access.base)
    if not error:
        report.ok(Link.LOGIN, f"logged in with {who}, MQTT {mqtt.protocol}")
        return True
    if "refused the connection" in error:
        reason = error.rsplit(": ", 1)[-1]
        if "version" in reason.lower():
            return _say_version(report, access)
        if mqtt.username is None:
            report.fault(
                Link.LOGIN, "account-needed", f"the broker wants an account: {reason}",
                "use the fleet's fleet.yaml (--config), or --user with --password-file",
            )  # fmt: skip
        else:
            report.fault(
                Link.LOGIN, "account-refused", f"the broker refuses the password of {who}: {reason}",
                f"is it the right password for {mqtt.username}? After `pypmi init` the broker must read its files anew"
                " (restart it, or SIGHUP)",
            )  # fmt: skip
    elif not mqtt.tls and await _speaks_tls(mqtt):
        report.fault(
            Link.TLS, "tls-broker", f"the broker at {mqtt.host}:{mqtt.port} wants TLS there",
            "use mqtts:// in mqtt.url, with ca_file",
        )  # fmt: skip
    elif mqtt.protocol == "5" and not await _try(mqtt.model_copy(update={"protocol": "3.1.1"}), access.base):
        return _say_version(report, access)
    else:
        report.fault(
            Link.LOGIN, "not-mqtt", f"what answers at {mqtt.host}:{mqtt.port} is no MQTT broker: {error}",
            "correct the port in mqtt.url; something else listens there",
        )  # fmt: skip
    return False


def _say_version(report: Report, access: Access) -> bool:
    text = f"the broker does not speak MQTT {access.mqtt.protocol}"
    fix = 'set mqtt.protocol to "3.1.1" in fleet.yaml (or --protocol 3.1.1)'
    if access.guess_protocol:
        report.note(Link.LOGIN, "mqtt-version", f"{text}; 3.1.1 is used", fix)
        return True
    report.fault(Link.LOGIN, "mqtt-version", text, fix)
    return False


async def _try(mqtt: MqttSettings, base: Path | None) -> str:
    """Connect once; returns why it failed, or nothing."""
    bus = Bus(
        mqtt.model_copy(update={"session_expiry": 0, "connect_timeout": _TIMEOUT}),
        f"pypmi-doctor-{os.urandom(4).hex()}",
        base=base,
    )
    running = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(3 * _TIMEOUT):
            while not bus.connected:
                if bus.last_error:
                    return bus.last_error
                await asyncio.sleep(0.02)
    except TimeoutError:
        return "no answer"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return ""
