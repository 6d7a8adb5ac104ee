"""One target under atheris: `FUZZ_TARGET=name python fuzz/one.py [libFuzzer's arguments]`, from the project's folder.

By the environment, since libFuzzer starts itself anew with arguments of its own when it merges.
"""

import os
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["pypmi", "ipmi_gateway", "esp8266_agent", "sol_relay"]):
    from fuzz.gateway import complain
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    complain()
    atheris.Setup(sys.argv, TARGETS[os.environ["FUZZ_TARGET"]])
    atheris.Fuzz()
