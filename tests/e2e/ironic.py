"""A real standalone Ironic for a test: API and conductor in one process, SQLite, no authentication, no message bus.

The times are short where Ironic has a setting for them; what it sends and how it reads the answers is its own.
"""

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab import Process, free_tcp_range
from stack import free_tcp_port, until

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".venv-ironic" / "bin"
INSTALLED = (PROGRAMS / "ironic").exists()
_API_VERSION = "1.90"
_CONSOLES = 16

_CONFIG = """
[DEFAULT]
auth_strategy = noauth
rpc_transport = none
host = lab
my_ip = 127.0.0.1
state_path = {folder}
enabled_hardware_types = ipmi
enabled_bios_interfaces = no-bios
enabled_boot_interfaces = pxe
enabled_console_interfaces = ipmitool-socat,no-console
enabled_deploy_interfaces = ramdisk
enabled_firmware_interfaces = no-firmware
enabled_inspect_interfaces = no-inspect
enabled_management_interfaces = ipmitool
enabled_network_interfaces = noop
enabled_power_interfaces = ipmitool
enabled_raid_interfaces = no-raid
enabled_rescue_interfaces = no-rescue
enabled_storage_interfaces = noop
enabled_vendor_interfaces = ipmitool,no-vendor
default_network_interface = noop
default_console_interface = ipmitool-socat
# its log then has every ipmitool command with its output
debug = true

[api]
host_ip = 127.0.0.1
port = {port}

[database]
connection = sqlite:///{folder}/ironic.sqlite

[conductor]
sync_power_state_interval = 5
power_state_sync_max_retries = 3
force_power_state_during_sync = false
automated_clean = false
power_state_change_timeout = 20
soft_power_off_timeout = 60
heartbeat_interval = 2

[ipmi]
command_retry_timeout = 10
min_command_interval = 1

[console]
socat_address = 127.0.0.1
terminal_pid_dir = {folder}/consoles
port_range = {consoles}:{consoles_end}

[pxe]
tftp_root = {folder}/tftp
tftp_master_path = {folder}/tftp-master

[sensor_data]
send_sensor_data = true
enable_for_undeployed_nodes = true
enable_for_conductor = false
interval = 10
wait_timeout = 60

[oslo_messaging_notifications]
driver = log

[oslo_concurrency]
lock_path = {folder}/locks
"""


class Ironic:
    """One installation with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ironic"
        self.folder.mkdir()
        self.port = free_tcp_port()
        self.consoles = free_tcp_range(_CONSOLES)
        self._config = self.folder / "ironic.conf"
        self._config.write_text(
            _CONFIG.format(
                folder=self.folder, port=self.port, consoles=self.consoles, consoles_end=self.consoles + _CONSOLES
            )
        )
        self._environment = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}:/usr/sbin:/sbin"}
        self.process = Process(
            "ironic", folder, str(PROGRAMS / "ironic"), "--config-file", str(self._config),
            environment=self._environment, port=self.port,
        )  # fmt: skip

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Make the database if there is none, start, and return when the conductor offers the ipmi driver."""
        if not (self.folder / "ironic.sqlite").exists():
            # SQLite can't do all of the migrations; the schema is made from the models
            self._run("ironic-dbsync", "--config-file", str(self._config), "create_schema")
        self.process.start(wait=120)
        until(self._offers_ipmi, 120, f"Ironic with the ipmi driver:\n{self.process.tail()}")

    def _offers_ipmi(self) -> bool:
        with contextlib.suppress(OSError):
            return "ipmi" in [driver["name"] for driver in self.get("/v1/drivers")["drivers"]]
        return False

    def stop(self) -> None:
        self.process.stop(60)

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [str(PROGRAMS / program), *words],
            env={**os.environ, **self._environment}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program} {words}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def baremetal(self, *words: str) -> str:
        """Ironic's own command line."""
        return self._run(
            "baremetal", "--os-auth-type", "none", "--os-endpoint", self.endpoint, "--os-baremetal-api-version",
            _API_VERSION, *words,
        )  # fmt: skip

    # -- REST ------------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON, of errors too."""
        request = urllib.request.Request(
            self.endpoint + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"X-OpenStack-Ironic-API-Version": _API_VERSION, "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def get(self, path: str) -> Any:
        status, body = self.request("GET", path)
        assert status == 200, body
        return body

    def do(self, method: str, path: str, body: Any = None) -> Any:
        """A request that must be taken. While the node is locked by Ironic itself (409) it is repeated."""

        def taken() -> tuple[int, Any] | None:
            status, answer = self.request(method, path, body)
            return None if status == 409 else (status, answer)

        status, answer = until(taken, 90, f"{method} {path} taken")
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/nodes/{name}")
        return found

    def provision(self, name: str, target: str, reached: str, timeout: float = 120) -> None:
        self.do("PUT", f"/v1/nodes/{name}/states/provision", {"target": target})
        until(lambda: self.node(name)["provision_state"] == reached, timeout, f"{name} {reached}")

    def power(self, name: str, target: str, reached: str, timeout: float = 90) -> None:
        """Change the power and wait until Ironic has seen it."""
        self.ask_power(name, target)
        until(lambda: self.settled(name), timeout, f"{name} settled")
        node = self.node(name)
        assert (node["power_state"], node["last_error"]) == (reached, None)

    def ask_power(self, name: str, target: str, **more: Any) -> None:
        self.do("PUT", f"/v1/nodes/{name}/states/power", {"target": target, **more})

    def settled(self, name: str) -> bool:
        node = self.node(name)
        return node["target_power_state"] is None and node["reservation"] is None

    def change(self, name: str, path: str, value: Any) -> None:
        """Change a field of a node."""
        self.do("PATCH", f"/v1/nodes/{name}", [{"op": "add", "path": path, "value": value}])
