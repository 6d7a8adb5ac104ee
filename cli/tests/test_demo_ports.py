"""Two demos that start at the same moment must not take each other's boards."""

from contextlib import ExitStack

import pytest
from pypmi_cli.demo import DemoError, port_range


def test_ranges_never_overlap():
    with ExitStack() as stack:
        taken: set[int] = set()
        for count in [2, 8, 300, 120, *[8] * 20]:
            base = stack.enter_context(port_range(count))
            ports = set(range(base, base + count))
            assert not ports & taken
            taken |= ports


def test_a_range_is_free_again_afterwards():
    for _ in range(300):  # more than there are
        with port_range(100) as base:
            assert 20_000 <= base <= 32_000 - 100


def test_too_many_are_refused():
    with pytest.raises(DemoError, match="fewer --nodes"), port_range(12_001):
        pass
