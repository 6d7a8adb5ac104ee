"""The corpus: for each target a file with an input a line, in hexadecimal; and how it is kept small."""

from collections.abc import Iterable
from pathlib import Path

from fuzz.targets import TARGETS

FOLDER = Path(__file__).parent / "corpus"
_PACKAGES = ("pypmi", "ipmi_gateway", "esp8266_agent", "sol_relay")


def read(target: str) -> list[bytes]:
    """The inputs kept for a target."""
    return [bytes.fromhex(line) for line in (FOLDER / f"{target}.hex").read_text().splitlines()]


def write(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these, in an order that does not change from one time to the next."""
    FOLDER.mkdir(exist_ok=True)
    lines = sorted({data.hex() for data in inputs}, key=lambda line: (len(line), line))
    (FOLDER / f"{target}.hex").write_text("".join(f"{line}\n" for line in lines))


def smallest(target: str, inputs: Iterable[bytes]) -> list[bytes]:
    """Those of the inputs that take a way through the code which none before takes; short ones first."""
    from coverage import Coverage

    include = [f"*/{package}/*" for package in _PACKAGES]
    measured = Coverage(data_file=None, branch=True, include=include)
    kept: list[bytes] = []
    known: set[tuple[str, int, int]] = set()
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        measured.erase()
        measured.start()
        try:
            TARGETS[target](data)
        finally:
            measured.stop()
        found = measured.get_data()
        ways = {(file, *arc) for file in found.measured_files() for arc in found.arcs(file) or ()}
        if not ways <= known:
            known |= ways
            kept.append(data)
    return kept
