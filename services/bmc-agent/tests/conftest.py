"""BMC servers for the tests."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests

from bmc_rigs import FakeBmc, IpmiSim


@pytest.fixture
async def ipmi_sim(tmp_path: Path) -> AsyncIterator[IpmiSim]:
    server = IpmiSim(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def fakebmc(tmp_path: Path) -> AsyncIterator[FakeBmc]:
    server = FakeBmc(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
