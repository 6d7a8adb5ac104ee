"""A black-box conformance suite for IPMI 2.0 over LAN: it knows a BMC by host, port and account only.

`python -m tests.conformance --host HOST --port PORT --user NAME --password PASSWORD` runs it against any BMC. The
cases stand in one module per subject; `suite.py` collects them.
"""

import sys
from pathlib import Path

# The raw client is that of the gateway's own tests: it shares no code with the gateway.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "services/ipmi-gateway/tests"))
