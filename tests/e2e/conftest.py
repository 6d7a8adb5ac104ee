"""Fixtures of the end-to-end tests: which third-party programs are installed, and where."""

import re
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from homeassistant import RELEASES


def pytest_report_header() -> list[str]:
    """Say which releases take part."""
    return [
        f"Home Assistant {release.version}: {'in ' + release.venv if release.program.exists() else 'not installed'}"
        for release in RELEASES
    ]


class InstallationScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of one installation in one process, in their order.

    xdist's own groups can't: they don't see the marks of fixture parameters, and 3.8 passes none of them with pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        release = re.search(r"\[(\d+\.\d+\.\d+)\]", nodeid)
        return nodeid.partition("::")[0] + (release[1] if release else "")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> InstallationScheduling:
    """Called in the process that hands the tests out."""
    return InstallationScheduling(config, log)
