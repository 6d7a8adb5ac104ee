"""Accounts as fleet.yaml names them: passwords that everybody knows are for loopback only."""

from pathlib import Path

import pytest
from ipmi_gateway.app import make_users
from pypmi.config.document import ConfigError
from pypmi.config.load import LoadedFleet, load_fleet

FLEET = """\
gateway: {{listen: [{listen}]}}
users: [{{name: admin, password: {{file: password}}}}]
nodes:
  - {{id: box, address: 1, listen: {node}, hardware: {{type: esp8266, host: 192.0.2.11}}}}
"""


def fleet(folder: Path, password: str, listen: str, node: str = "null") -> LoadedFleet:
    (folder / "password").write_text(password + "\n")
    (folder / "fleet.yaml").write_text(FLEET.format(listen=listen, node=node))
    return load_fleet(folder / "fleet.yaml")


@pytest.mark.parametrize(
    ("listen", "node"),
    [
        ('"[::]:623"', "null"),
        ('"0.0.0.0:623"', "null"),
        ('"10.0.0.5:623"', "null"),
        ('"bmc.lan:623"', "null"),
        ('"127.0.0.1:623", "10.0.0.5:623"', "null"),
        ('"127.0.0.1:623"', '"10.0.0.6:623"'),
    ],
)
@pytest.mark.parametrize("password", ["changeme", "ADMIN", "calvin", "0penBmc"])
def test_known_default_passwords_are_refused(tmp_path: Path, password: str, listen: str, node: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_users(fleet(tmp_path, password, listen, node))
    (problem,) = raised.value.problems
    assert problem.field == "users[0].password"
    assert "known default" in problem.message
    assert "pypmi init" in problem.message
    assert password not in str(problem)


@pytest.mark.parametrize("listen", ['"127.0.0.1:6230"', '"[::1]:6230"', '"localhost:6230"', '"127.0.0.1:1", "[::1]:2"'])
def test_on_loopback_they_are_taken(tmp_path: Path, listen: str) -> None:
    (user,) = make_users(fleet(tmp_path, "changeme", listen))
    assert user.name == "admin"


def test_other_passwords_are_taken_anywhere(tmp_path: Path) -> None:
    assert len(make_users(fleet(tmp_path, "vuC4hietoo", '"[::]:623"'))) == 1


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    loaded = fleet(tmp_path, "x", '"[::]:623"')
    (tmp_path / "password").unlink()
    with pytest.raises(ConfigError, match="password"):
        make_users(loaded)
