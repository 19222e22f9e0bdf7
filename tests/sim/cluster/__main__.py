"""Run seeds: `python -m tests.sim.cluster --seeds 100 --first 1`.

Prints one line for each seed that violates something, which is the command that reproduces it, and
a summary. Exit status 1 if there was any; with `--mutant`, if there was none.
"""

import argparse
import gc
import itertools
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

import structlog

from tests.sim.cluster.run import Outcome, Run
from tests.sim.cluster.troubles import KINDS, kinds_of
from tests.sim.damaged import MUTANTS
from tests.sim.loop import OWNER

SHOWN_MAX = 3
"""Violations of one run that are printed."""

HASH_SEED = "0"
"""Sets of names have an order only if Python's hashes are the same in every process."""


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.cluster", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--duration", type=float, default=10.0, help="virtual seconds of trouble")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="put this mistake into the code")
    parser.add_argument(
        "--trouble", choices=sorted(KINDS), action="append", default=[],
        help="only the seeds that have it; several may be asked for",
    )  # fmt: skip
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    parser.add_argument("--verbose", action="store_true", help="say more about each seed")
    parser.add_argument("--log", action="store_true", help="show the nodes' logs; one process")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim.cluster", *sys.argv[1:]])
    started = time.monotonic()
    count = bad = acknowledged = polled = 0
    for outcome in _outcomes(options):
        count += 1
        acknowledged += outcome.acknowledged
        polled += outcome.polled
        bad += bool(outcome.violations)
        if outcome.violations or options.verbose:
            print(_line(options, outcome), flush=True)
        if outcome.violations and options.stop:
            break
    print(
        f"{count} seeds of {options.duration:g} s: {bad} with a violation; {acknowledged} records"
        f" acknowledged, {polled} read, {time.monotonic() - started:.0f} s"
    )
    return int((bad == 0) if options.mutant else bad > 0)


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    seeds = range(options.first, options.first + options.seeds)
    arguments = zip(
        [seed for seed in seeds if set(options.trouble) <= set(kinds_of(seed))],
        itertools.repeat(options.duration),
        itertools.repeat(options.mutant),
        itertools.repeat(options.log),
    )
    if options.jobs == 1 or options.log or options.seeds == 1:
        yield from map(_run, arguments)
        return
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        yield from pool.imap(_run, arguments)


def _run(arguments: tuple[int, float, str | None, bool]) -> Outcome:
    seed, duration_s, mutant, shows_log = arguments
    if not shows_log:
        logging.disable(logging.CRITICAL)
        structlog.configure(processors=[_drop])
    gc.collect()
    gc.disable()
    try:
        run = Run(seed, duration_s=duration_s)
        if shows_log:
            structlog.configure(processors=[_stamp(run), structlog.dev.ConsoleRenderer()])
        if mutant is None:
            return run.go()
        with MUTANTS[mutant]():
            return run.go()
    finally:
        gc.enable()


def _drop(_logger: object, _name: str, _event: structlog.types.EventDict) -> str:
    raise structlog.DropEvent


def _stamp(run: Run) -> structlog.types.Processor:
    def stamp(
        _logger: object, _name: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {"at": f"{run.loop.time():.4f}", "node": OWNER.get(0), **event}

    return stamp


def _line(options: argparse.Namespace, outcome: Outcome) -> str:
    command = f"python -m tests.sim.cluster --first {outcome.seed} --seeds 1"
    command += f" --duration {options.duration:g}"
    command += f" --mutant {options.mutant}" if options.mutant else ""
    state = (
        "; ".join(outcome.violations[:SHOWN_MAX]) or f"clean, {outcome.acknowledged} acknowledged"
    )
    return (
        f"{command}  # {state}  [{', '.join(outcome.troubles)}; {outcome.segments} segments,"
        f" {outcome.digest}]"
    )


if __name__ == "__main__":
    sys.exit(main())
