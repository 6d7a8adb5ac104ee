"""Fixtures of the end-to-end tests: which third-party programs are installed, and where."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from homeassistant import RELEASES


def pytest_report_header() -> list[str]:
    """Say which releases take part."""
    return [
        f"Home Assistant {release.version}: {'in ' + release.venv if release.program.exists() else 'not installed'}"
        for release in RELEASES
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one installation in one process, in their order. (Marks of fixture parameters do not.)"""
    for item in items:
        callspec = getattr(item, "callspec", None)
        release = callspec.params.get("stage") if callspec is not None else None
        group = item.path.stem if release is None else f"{item.path.stem}-{release.version}"
        item.add_marker(pytest.mark.xdist_group(group))
