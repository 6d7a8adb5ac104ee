"""A real Home Assistant for a test: its configuration folder is seeded, so that it starts without a question.

REST for states and services, WebSocket for what only that offers (log, registries, dashboards).
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from lab import Process
from stack import free_tcp_port, until

ROOT = Path(__file__).resolve().parents[2]
_STAMP = "2024-01-01T00:00:00.000000+00:00"
_JWT_KEY = "0" * 128
_OWNER, _TOKEN_ID = "a" * 32, "b" * 32
_ENTITY_PLATFORMS = {"switch", "button", "binary_sensor", "select", "event", "sensor", "update", "mqtt"}


@dataclass(frozen=True)
class Release:
    """A release under test, and the discovery form that it is given."""

    version: str
    venv: str
    form: str

    @property
    def program(self) -> Path:
        return ROOT / self.venv / "bin" / "hass"


RELEASES = (
    Release("2024.3.3", ".venv-ha", "component"),
    Release("2025.4.4", ".venv-ha-2025", "device"),
    Release("2026.11.0", ".venv-ha-2026", "device"),
)


class HomeAssistant:
    """One installation, with its configuration in `folder`."""

    def __init__(self, release: Release, folder: Path, mqtt_port: int, *, extra: str = "") -> None:
        self.release = release
        self.folder = folder / "homeassistant"
        self.port = free_tcp_port()
        self._seed(mqtt_port, extra)
        self.process = Process(
            f"hass-{release.version}", folder, str(release.program), "--config", str(self.folder), "--skip-pip",
            port=self.port,
        )  # fmt: skip
        self._token = _long_lived_token()

    def _seed(self, mqtt_port: int, extra: str) -> None:
        storage = self.folder / ".storage"
        storage.mkdir(parents=True)
        (self.folder / "configuration.yaml").write_text(
            "homeassistant:\n  name: Lab\n  time_zone: UTC\n  unit_system: metric\n"
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self.port}\n"
            "api:\nmqtt:\nfrontend:\nsystem_log:\n  max_entries: 500\n" + extra
        )
        entry = {
            "entry_id": "c" * 32, "version": 1, "minor_version": 1, "domain": "mqtt", "title": "broker",
            "data": {"broker": "127.0.0.1", "port": mqtt_port, "discovery": True, "discovery_prefix": "homeassistant"},
            "options": {}, "pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user",
            "unique_id": None, "disabled_by": None,
        }  # fmt: skip
        steps = ["user", "core_config", "analytics", "integration"]
        user = {
            "id": _OWNER, "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "Owner",
            "system_generated": False, "local_only": False,
        }  # fmt: skip
        token = {
            "id": _TOKEN_ID, "user_id": _OWNER, "client_id": None, "client_name": "test", "client_icon": None,
            "token_type": "long_lived_access_token", "created_at": _STAMP, "access_token_expiration": 315360000.0,
            "token": "d" * 128, "jwt_key": _JWT_KEY, "last_used_at": None, "last_used_ip": None,
            "credential_id": None, "version": "2024.1.0", "expire_at": None,
        }  # fmt: skip
        groups = [{"id": f"system-{name}", "name": name} for name in ("admin", "users", "read-only")]
        auth = {"users": [user], "groups": groups, "credentials": [], "refresh_tokens": [token]}
        # From 2026 on: what `http:` in the YAML file says is tried for five minutes only, unless it stands here.
        http = {
            "server_host": ["127.0.0.1"], "server_port": self.port, "cors_allowed_origins": [],
            "login_attempts_threshold": -1, "ip_ban_enabled": True, "ssl_profile": "modern_v6",
            "use_x_frame_options": True, "created_at": _STAMP, "error": None, "error_message": None,
        }  # fmt: skip
        for key, version, data in (
            ("core.config_entries", 1, {"entries": [entry]}),
            ("onboarding", 4, {"done": steps}),
            ("auth", 1, auth),
            ("http", 3, {"stable": http, "pending": None, "yaml_migration_done": True}),
        ):
            text = json.dumps({"version": version, "minor_version": 1, "key": key, "data": data})
            (storage / key).write_text(text)

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> None:
        self.process.start(wait=0)
        if wait:
            self.wait_running()

    def wait_running(self, timeout: float = 180) -> None:
        """Return when it says that it runs: everything is set up."""
        self.process.wait_listening(timeout)
        until(lambda: self._get("/api/config").get("state") == "RUNNING", timeout, "Home Assistant running")

    def stop(self) -> None:
        self.process.stop(60)

    # -- REST ------------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise
        except (urllib.error.URLError, OSError):
            return {}

    def states(self) -> dict[str, dict[str, Any]]:
        """All states by entity id."""
        found = self._get("/api/states")
        return {item["entity_id"]: item for item in found} if isinstance(found, list) else {}

    def state(self, entity: str) -> str:
        """The state of one entity; empty when there is none."""
        text: str = self._get(f"/api/states/{entity}").get("state", "")
        return text

    def attributes(self, entity: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/api/states/{entity}").get("attributes", {})
        return found

    def set_state(self, entity: str, state: str) -> None:
        """What another integration would say."""
        self._request("POST", f"/api/states/{entity}", {"state": state})

    def call(self, service: str, entity: str | None = None, **data: Any) -> None:
        """Call `domain.service`."""
        body = {**data, **({"entity_id": entity} if entity else {})}
        self._request("POST", f"/api/services/{service.replace('.', '/')}", body)

    def wait_state(self, entity: str, wanted: str, timeout: float = 30) -> None:
        until(lambda: self.state(entity) == wanted, timeout, f"{entity} {wanted}; it is {self.state(entity)!r}")

    # -- WebSocket -------------------------------------------------------------------------------------------------

    def ask(self, kind: str, **fields: Any) -> Any:
        """One WebSocket command's result."""
        return asyncio.run(self._ask({"type": kind, **fields}))

    async def _ask(self, command: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/websocket"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            await socket.receive_json(timeout=30)
            await socket.send_json({"type": "auth", "access_token": self._token})
            assert (await socket.receive_json(timeout=30))["type"] == "auth_ok"
            await socket.send_json({"id": 1, **command})
            answer = await socket.receive_json(timeout=60)
        assert answer["success"], answer
        return answer["result"]

    def complaints(self) -> list[str]:
        """Warnings and errors of MQTT, templates and entity platforms since the start."""
        found = []
        for item in self.ask("system_log/list"):
            parts = item["name"].split(".")
            ours = item["name"].startswith("homeassistant.helpers.template") or (
                parts[:2] == ["homeassistant", "components"] and parts[2] in _ENTITY_PLATFORMS
            )
            if ours and item["level"] in {"WARNING", "ERROR", "CRITICAL"}:
                found.append(f"{item['level']} {item['name']}: {item['message']}")
        return found


def _long_lived_token() -> str:
    """A JWT (HS256) of the seeded refresh token: `iss` is its id."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = int(time.time())
    head = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = part(json.dumps({"iss": _TOKEN_ID, "iat": now - 60, "exp": now + 86_400}).encode())
    signature = hmac.new(_JWT_KEY.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{part(signature)}"
