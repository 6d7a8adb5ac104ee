"""Lets the modules of this folder find each other, and starts a lab for each."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(
    str(Path(__file__).parent.parent.parent / "services/ipmi-gateway/tests")
)  # the client that builds packets

from fault_lab import Lab, make_lab
from stack import have


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A small fleet of real processes."""
    assert have("ipmitool", "mosquitto"), "install ipmitool and mosquitto"
    running = make_lab(tmp_path_factory.mktemp("lab"), seed=os.getpid())
    yield running
    running.stop()
