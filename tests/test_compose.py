"""The Compose file and its overrides are valid with what `pypmi init` writes. `make e2e-docker` brings them up."""

import json
from pathlib import Path

import pytest
from stack import PYPMI, have, run

DEPLOY = Path(__file__).parent.parent / "deploy"
FILES = {path.name: path for path in sorted(DEPLOY.glob("*.y*ml"))}

pytestmark = pytest.mark.skipif(
    not have("docker") or run("docker", "compose", "version").code != 0, reason="needs the docker compose command"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    done = run(*PYPMI, "init", str(folder))
    assert done.code == 0, done.text
    return folder / ".env"


def config(environment: Path, *names: str) -> dict:
    files = [word for name in ("docker-compose.yml", *names) for word in ("-f", str(FILES[name]))]
    profiles = [word for profile in ("demo", "gpio", "bmc") for word in ("--profile", profile)]
    done = run("docker", "compose", "--env-file", str(environment), *files, *profiles, "config", "--format", "json")
    assert done.code == 0, done.text
    return json.loads(done.out)


@pytest.mark.parametrize("override", [(), *((name,) for name in FILES if name != "docker-compose.yml")])
def test_valid(environment: Path, override: tuple[str, ...]):
    services = config(environment, *override)["services"]
    assert {"mosquitto", "ipmi-gateway", "esp8266-agent", "sol-relay"} <= services.keys()


def test_every_service_is_confined(environment: Path):
    for name, service in config(environment)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert not service["user"].startswith("0"), name
        assert service.get("mem_limit") or service["deploy"]["resources"]["limits"], name
        assert service.get("stop_grace_period") in {"5s", "4s", "3s"}, name
