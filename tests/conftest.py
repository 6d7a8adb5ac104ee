"""Fixtures across services."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "services/rpi-gpio-agent/tests"))  # stand-ins for GPIO libraries
sys.path.append(str(Path(__file__).parent.parent / "services/bmc-agent/tests"))  # ipmi_sim

from stack import Demo

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts `make test &` so, and what tests start would inherit it: nothing would end by ctrl-c.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo fleet of four nodes for a module's tests."""
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    running.stop()
