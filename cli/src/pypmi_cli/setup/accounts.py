"""Accounts at the broker: who there is, their passwords, and Mosquitto's password file."""

import base64
import hashlib
import secrets
from pathlib import Path

from pypmi.config.fleet import Fleet

ITERATIONS = 10_000
"""Of PBKDF2. The passwords are random, 144 bits: no guessing is in sight, and a Pi must check many at start-up."""
_SALT_OCTETS = 12
IPMI_PASSWORD_LENGTH = 20
"""The most that IPMI 2.0 allows: RAKP gives a salted hash to whoever knows a user name, so only length protects it."""
_ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without letters and digits that look alike, and without anything a shell would take for its own."""

OPERATOR = "operator"
"""The account of people and of `pypmi` on the broker."""
HOME_ASSISTANT = "homeassistant"


def service_accounts(fleet: Fleet, gateways: tuple[str, ...] = ("ipmi-gateway",)) -> list[str]:
    """The services of a fleet, each of which has an account of its own."""
    agents = {node.agent_name for node in fleet.nodes}
    relays = {node.console.relay for node in fleet.nodes if node.console is not None}
    return [*gateways, *sorted(agents | relays)]


def random_password(length: int = 24) -> str:
    """A random password that needs no quoting anywhere."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def keep_secret(path: Path, value: str | None = None) -> str:
    """Read the secret in `path`; make one if there is none. The file is for its owner only."""
    if path.exists():
        path.chmod(0o600)
        return path.read_text().strip()
    text = value if value is not None else random_password()
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return text


def mosquitto_hash(password: str, salt: bytes | None = None) -> str:
    """A password as Mosquitto's password file has it: PBKDF2 with SHA-512 (`$7$`)."""
    salt = salt or secrets.token_bytes(_SALT_OCTETS)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, 64)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
