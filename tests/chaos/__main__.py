"""`python -m tests.chaos --minutes 5`: prints a report as JSON; exit code 1 unless it is clean."""

import argparse
import asyncio
import json
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Plan, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--faults", nargs="*", default=(), help="only these, by name")
    parser.add_argument("--rate", type=float, default=150.0, help="messages/s of each writer")
    parser.add_argument("--keep", type=Path, help="a folder for data and logs, kept afterwards")
    parser.add_argument("--report", type=Path, help="a file for the report, too")
    given = parser.parse_args()
    # It logs each attempt to reach a node that is down.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="walrus-chaos-") as temporary:
        plan = Plan(
            given.keep or Path(temporary),
            given.minutes * 60,
            given.seed,
            tuple(given.faults),
            given.rate,
        )
        print(f"seed {plan.seed}, {given.minutes} minutes", flush=True)
        report = asyncio.run(run(plan))
    text = json.dumps(report.as_json(), indent=2)
    print(text)
    if given.report:
        given.report.write_text(text + "\n")
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
