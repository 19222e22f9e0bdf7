"""`make bench ARGS="…"`: runs the cells, and writes the result as JSON and as a page."""

import argparse
import json
import shlex
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench.machine import describe, load_average
from bench.peers import KAFKA_JARS, ROOT, RUST_PEER, Kafka
from bench.run import Runner
from bench.sections import SECTIONS, Options
from bench.stage import Stage
from bench.table import page

QUICK = Options(
    seconds=1.0,
    producer_cells=0,
    connections=(1, 100),
    topics=(1, 100),
    shares=(0.5,),
    stored_gb=(),
)


def main() -> None:
    chosen = _arguments()
    options = QUICK if chosen.quick else Options()
    if chosen.seconds is not None:
        options = replace(options, seconds=chosen.seconds)
    if chosen.stored_gb is not None:
        options = replace(options, stored_gb=tuple(map(float, chosen.stored_gb.split(","))))
    Kafka.heap = chosen.heap
    if not list(KAFKA_JARS.glob("kafka_*.jar")) or not RUST_PEER.exists():
        sys.exit("The peers are not built: run `make bench`, which needs mvn and cargo for them.")
    names = chosen.only.split(",") if chosen.only else list(SECTIONS)
    cells = [cell for name in names for cell in SECTIONS[name](options)]
    if chosen.match:
        cells = [cell for cell in cells if chosen.match in cell.name]
    result = describe("make bench ARGS=" + shlex.quote(shlex.join(sys.argv[1:])))
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.folder))
    stage = Stage(folder)
    signal.signal(signal.SIGTERM, _stop)
    before = load_average()
    runner = Runner(stage, chosen.repeats or (2 if chosen.quick else 5))
    left_out = []
    try:
        left_out = runner.run(cells, minutes_max=chosen.minutes)
    finally:
        stage.close()
        shutil.rmtree(folder)
        result |= {
            "note": chosen.note,
            "repeats": chosen.repeats or (2 if chosen.quick else 5),
            "load_average": (before, load_average()),
            "cells": runner.results,
            "left_out": left_out,
        }
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        (chosen.output / "README.md").write_text(page(result))
    print(page(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="a few minutes: few cells, short")
    parser.add_argument("--repeats", type=int, help="runs of each cell and system; 5")
    parser.add_argument("--seconds", type=float, help="of each run, by the slower system; 3")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell later")
    parser.add_argument("--stored-gb", help="for the recovery, as 1,10; 1")
    parser.add_argument("--only", help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--match", help="only cells whose name has this in it")
    parser.add_argument("--heap", default=Kafka.heap, help="of Kafka's JVM")
    parser.add_argument("--note", default="", help="a sentence for the head of the page")
    parser.add_argument("--folder", help="where the servers' data goes")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "result")
    return parser.parse_args()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
