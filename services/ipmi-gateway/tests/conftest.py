"""What the gateway's tests have in common."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests

from engine_harness import Harness
from rmcp_client import RmcpClient


@pytest.fixture
def harness() -> Harness:
    """An engine without sockets."""
    return Harness()


@pytest.fixture
def client(harness: Harness) -> RmcpClient:
    """A client of it, not logged in."""
    return RmcpClient(harness.transport())


@pytest.fixture(params=[3, 17])
def admin(request: pytest.FixtureRequest, client: RmcpClient) -> RmcpClient:
    """A client with an administrator's session, in each cipher suite, raised to ADMINISTRATOR."""
    client.login("admin", "secret", suite=request.param)
    assert client.set_privilege(4).code == 0
    return client
