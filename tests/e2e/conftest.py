"""Fixtures of the end-to-end tests: which third-party programs are installed, and where."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from homeassistant import RELEASES


def pytest_report_header() -> list[str]:
    """Say which releases take part."""
    return [
        f"Home Assistant {release.version}: {'in ' + release.venv if release.program.exists() else 'not installed'}"
        for release in RELEASES
    ]
