"""`make bench ARGS="…"`: runs the cells, and writes the result as JSON and as a page."""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench.again import failed, mended
from bench.cells import Options
from bench.machine import describe, load_average
from bench.matrix import ALL_COUNT
from bench.peers import KAFKA_JARS, ROOT, Kafka
from bench.plan import Budget, shorten
from bench.run import Runner
from bench.rust_peers import DISTRIBUTED, ENGINE
from bench.sections import SECTIONS
from bench.stage import Stage
from bench.table import page

OUTPUT = Path(os.environ.get("BENCH_OUTPUT") or ROOT / "build" / "bench" / "result")

QUICK = Options(
    seconds=1.0,
    producer_cells=0,
    connections=(1, 100),
    topics=(1, 100),
    shares=(0.5,),
    stored_gb=(0.1,),
)


def main() -> None:
    chosen = _arguments()
    options = QUICK if chosen.quick else shorten(Options(), chosen.minutes)
    if chosen.seconds is not None:
        options = replace(options, seconds=chosen.seconds)
    if chosen.stored_gb is not None:
        options = replace(options, stored_gb=tuple(map(float, chosen.stored_gb.split(","))))
    if chosen.producer_cells is not None:
        options = replace(options, producer_cells=chosen.producer_cells)
    repeats = chosen.repeats or (2 if chosen.quick else 5)
    Kafka.heap = chosen.heap
    if not list(KAFKA_JARS.glob("kafka_*.jar")) or not ENGINE.exists():
        sys.exit("The peers are not built: run `make bench`, which needs mvn and cargo for them.")
    names = chosen.only.split(",") if chosen.only else list(SECTIONS)
    cells = [cell for name in names for cell in SECTIONS[name](options)]
    if chosen.match:
        cells = [cell for cell in cells if chosen.match in cell.name]
    earlier = json.loads((chosen.output / "result.json").read_text()) if chosen.again else None
    if earlier is not None:
        cells = [cell for cell in cells if (cell.section, cell.name) in failed(earlier)]
    result = describe(_command())
    stage = Stage(Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.folder)))
    signal.signal(signal.SIGTERM, _stop)
    before = load_average()
    runner = Runner(stage, Budget(chosen.minutes, options.seconds, repeats))
    try:
        runner.run(cells)
    finally:
        stage.close()
        shutil.rmtree(stage.folder)
        result |= {
            "note": chosen.note,
            "repeats": repeats,
            "seconds": options.seconds,
            "load_average": (before, load_average()),
            "cells": runner.results,
            "left_out": runner.left_out + _not_built(names),
        }
        if earlier is not None:
            result = mended(earlier, result)
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        (chosen.output / "README.md").write_text(page(result))
    print(page(result))


def _not_built(sections: Sequence[str]) -> list[str]:
    """What would have been measured, had it been there."""
    if "native" not in sections or DISTRIBUTED.exists():
        return []
    return ["native: the Walrus engine's distributed form, which is not built here"]


def _command() -> str:
    """As one would type it."""
    given = {name: os.environ.get(name) for name in ("BENCH_OUTPUT", "ORIGINAL")}
    words = ["make bench", *(f"{name}={value}" for name, value in given.items() if value)]
    if sys.argv[1:]:
        words.append(f"ARGS={shlex.quote(shlex.join(sys.argv[1:]))}")
    return " ".join(words)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="few cells, short, twice")
    parser.add_argument("--repeats", type=int, help="runs of each cell and system; 5")
    parser.add_argument("--seconds", type=float, help="of each run, by the slower system; 3")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="leave out what does not fit"
    )
    parser.add_argument("--stored-gb", help="for the recovery, as 1,10; 1")
    parser.add_argument(
        "--producer-cells", type=int, help=f"settings of producers; 16, and {ALL_COUNT} are all"
    )
    parser.add_argument("--only", help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--match", help="only cells whose name has this in it")
    parser.add_argument("--again", action="store_true", help="only what failed in that result")
    parser.add_argument("--heap", default=Kafka.heap, help="of Kafka's JVM")
    parser.add_argument("--note", default="", help="a sentence for the head of the page")
    parser.add_argument("--folder", help="where the servers' data goes")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the result goes")
    return parser.parse_args()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
