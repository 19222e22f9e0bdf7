"""Run seeds: `python -m tests.sim.raft --seeds 100 --first 0`. From 1,000,000 on, each is a feud;
from 2,000,000 on, the returns of a leader among five; from 3,000,000 on, somebody who is away.

Prints one line for each seed that violates something, which is the command that reproduces it, and
a summary. Exit status 1 if there was any; with `--fault`, if there was none."""

import argparse
import itertools
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.sim.raft.cluster import SimNode
from tests.sim.raft.faults import FAULTS
from tests.sim.raft.reigns import REIGNS_SIZE
from tests.sim.raft.run import Outcome, Run
from tests.sim.raft.troubles import is_reigns

SIZES = (3, 3, 5, 3, 4, 3, 5, 3, 3, 5)
"""By the last digit of the seed."""


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.raft", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--nodes", type=int, help="size of the cluster; by default 3, 5 or 4")
    parser.add_argument("--duration", type=float, default=60.0, help="virtual seconds of trouble")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="take back one correction")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    parser.add_argument("--verbose", action="store_true", help="say more about each seed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    started = time.monotonic()
    count = violations = commits = answers = 0
    for outcome in _outcomes(options):
        count += 1
        commits += outcome.commits
        answers += outcome.answers
        if outcome.violation or options.verbose:
            print(_line(options, outcome), flush=True)
        if outcome.violation:
            violations += 1
            if options.stop:
                break
    print(
        f"{count} seeds of {options.duration:g} s: {violations} with a violation;"
        f" {commits} entries committed, {answers} answers, {time.monotonic() - started:.0f} s"
    )
    return int((violations == 0) if options.fault else violations > 0)


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    seeds = range(options.first, options.first + options.seeds)
    arguments = zip(
        seeds,
        itertools.repeat(options.nodes),
        itertools.repeat(options.duration),
        itertools.repeat(options.fault),
    )
    if options.jobs == 1:
        yield from map(_run, arguments)
        return
    with multiprocessing.Pool(options.jobs) as pool:
        yield from pool.imap(_run, arguments)


def _run(arguments: tuple[int, int | None, float, str | None]) -> Outcome:
    seed, nodes, duration_s, fault = arguments
    node_class = FAULTS[fault] if fault else SimNode
    logging.disable(logging.CRITICAL)
    return Run(seed, size=_size(seed, nodes), duration_s=duration_s, node_class=node_class).go()


def _size(seed: int, nodes: int | None) -> int:
    if nodes is not None:
        return nodes
    return REIGNS_SIZE if is_reigns(seed) else SIZES[seed % len(SIZES)]


def _line(options: argparse.Namespace, outcome: Outcome) -> str:
    size = _size(outcome.seed, options.nodes)
    command = f"python -m tests.sim.raft --first {outcome.seed} --seeds 1 --nodes {size}"
    command += f" --duration {options.duration:g}"
    command += f" --fault {options.fault}" if options.fault else ""
    state = outcome.violation or f"clean, {outcome.commits} entries, messages {outcome.digest}"
    return f"{command}  # {state}"


if __name__ == "__main__":
    sys.exit(main())
