"""What the fuzzer has learned stays right: its seeds and corpus, given to every parser (`make fuzz` looks further)."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))

from fuzz.corpus import read
from fuzz.gateway import complain
from fuzz.seeds import seeds
from fuzz.targets import TARGETS


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """The targets make exceptions of errors in the log, which is theirs alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    complain()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_are_kept(target: str) -> None:
    assert len(read(target)) >= 5


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_again(target: str) -> None:
    for data in (*seeds(target), *read(target)):
        TARGETS[target](data)
