"""`python -m tests.conformance`: the conformance suite against any BMC.

Exit status 0: all that applies has passed; 1: something failed; 2: the BMC could not be reached.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence

from .bmc import CAPABILITIES, Account, Bmc
from .case import Result, Verdict, run_case
from .report import summary
from .suite import all_cases

ALWAYS = ("nokg", "sel", "power", "identify", "diag", "sensors", "sol", "idle")
"""What is taken for granted unless `--lacks` says otherwise."""


def _number(text: str) -> int:
    return int(text, 0)


def _account(text: str) -> Account:
    name, colon, password = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("give NAME:PASSWORD")
    return Account(name, password)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=623)
    parser.add_argument("--user", default="admin", help="an administrator (default admin)")
    parser.add_argument("--password", required=True)
    parser.add_argument("--operator", type=_account, metavar="NAME:PASSWORD", help="an account with that limit")
    parser.add_argument("--viewer", type=_account, metavar="NAME:PASSWORD", help="an account with the limit USER")
    parser.add_argument("--long", type=_account, metavar="NAME:PASSWORD", help="an account with 20 octets of password")
    parser.add_argument("--kg", type=bytes.fromhex, default=b"", metavar="HEX", help="the BMC key, if one is set")
    parser.add_argument("--suites", default="17,3", help="cipher suites that it should serve, best first")
    parser.add_argument("--target", type=_number, help="bridge to this address, as ipmitool -t")
    parser.add_argument("--channel", type=_number, default=0, help="on this channel, as ipmitool -b")
    parser.add_argument("--other", type=_number, help="address of a second target on that channel")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds after which a silent session ends")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds to wait for one answer")
    parser.add_argument(
        "--lacks", default="", metavar="WORD,...", help=f"what it does not claim to have, of: {', '.join(ALWAYS)}"
    )
    parser.add_argument("--slow", action="store_true", help="also the cases that take a minute or more")
    parser.add_argument("-k", dest="only", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--list", action="store_true", help="print the cases and their rules, and run none")
    return parser


def declared(arguments: argparse.Namespace) -> Bmc:
    """The BMC that the options describe."""
    suites = tuple(int(number) for number in arguments.suites.split(","))
    words = set(ALWAYS) - set(arguments.lacks.split(",")) | {f"suite{number}" for number in suites}
    for name in ("operator", "viewer", "long", "kg"):
        if getattr(arguments, name):
            words.add(name)
    if arguments.kg:
        words.discard("nokg")
    words |= {"direct", "freeipmi"} if arguments.target is None else {"bridging", "dual"}
    if arguments.host.startswith("127."):
        words.add("loopback")
    if arguments.other is not None:
        words.add("other")
    if arguments.target is not None and arguments.target & 1:
        words.add("odd")
    operator = arguments.operator and Account(arguments.operator.name, arguments.operator.password, 3)
    viewer = arguments.viewer and Account(arguments.viewer.name, arguments.viewer.password, 2)
    return Bmc(
        arguments.host,
        arguments.port,
        Account(arguments.user, arguments.password),
        operator=operator,
        viewer=viewer,
        long=arguments.long,
        suites=suites,
        kg=arguments.kg,
        target=arguments.target,
        channel=arguments.channel,
        other=None if arguments.other is None else (arguments.channel, arguments.other),
        idle=arguments.idle,
        capabilities=frozenset(words & set(CAPABILITIES)),
        timeout=arguments.timeout,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; returns the exit status."""
    arguments = _parser().parse_args(argv)
    pattern = re.compile(arguments.only)
    cases = [case for case in all_cases() if pattern.search(case.name) and (arguments.slow or not case.slow)]
    if arguments.list:
        for case in cases:
            print(f"{case.group}: {case.name}: {case.rule}")
        print(f"{len(cases)} cases")
        return 0
    bmc = declared(arguments)
    if not bmc.alive():
        print(f"no BMC answers at {bmc.host}:{bmc.port}", file=sys.stderr)
        return 2
    results: list[Result] = []
    for case in cases:
        result = run_case(case, bmc)
        results.append(result)
        if not arguments.json and result.verdict is Verdict.FAILED:
            print(f"FAILED {case.name} ({result.seconds:.1f} s): {case.rule}\n       {result.reason}", flush=True)
    if arguments.json:
        print(json.dumps([_plain(result) for result in results], indent=1))
    else:
        print(summary({"this BMC": results}))
    return int(any(result.verdict is Verdict.FAILED for result in results))


def _plain(result: Result) -> dict[str, object]:
    return {
        "group": result.case.group.value,
        "case": result.case.name,
        "rule": result.case.rule,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
