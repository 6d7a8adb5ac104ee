"""Gives every target its seeds and its whole corpus, without a fuzzer: what was once learned stays right."""

from fuzz.corpus import read
from fuzz.gateway import complain
from fuzz.seeds import seeds
from fuzz.targets import TARGETS


def main() -> None:
    """All of them; raises what the first fault raises."""
    complain()
    for name, function in TARGETS.items():
        for data in (*seeds(name), *read(name)):
            function(data)


if __name__ == "__main__":
    main()
