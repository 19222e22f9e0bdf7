"""Runs cells: interleaved, each repeated, with progress, into one result."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.meter import can_count, counted
from bench.peers import Peer
from bench.sections import Cell, Measure
from bench.stage import Stage
from bench.stats import Sample, Spread


class Runner:
    """One run of the whole."""

    def __init__(self, stage: Stage, repeats: int) -> None:
        self._stage = stage
        self._repeats = repeats
        self._can_count = can_count()
        self.results: list[dict[str, Any]] = []
        """A row per cell, as it goes into the JSON file."""

    def run(self, cells: Sequence[Cell], *, minutes_max: float) -> list[str]:
        """A cell that fails is reported as failed; the others go on. After `minutes_max` none is
        begun any more; answers the names of those that were left out."""
        began = time.monotonic()
        for number, cell in enumerate(cells):
            if time.monotonic() - began > minutes_max * 60:
                return [f"{cell.section}: {cell.name}" for cell in cells[number:]]
            left = (time.monotonic() - began) / number * (len(cells) - number) if number else 0
            eta = f", {left / 60:.0f} min left" if number else ""
            _say(f"[{number + 1}/{len(cells)}{eta}] {cell.section}: {cell.name}")
            row = {"section": cell.section, "name": cell.name, "headline": cell.headline}
            try:
                self.results.append(row | self._cell(cell))
            except (OSError, RuntimeError, ValueError) as error:
                _say(f"    FAILED: {error}")
                self.results.append(row | {"failure": str(error)})
        return []

    def _cell(self, cell: Cell) -> dict[str, Any]:
        peers = [self._stage.peer(kind, cell.durability, cell.label) for kind in cell.peers]
        measure = cell.begin(self._stage, peers)
        samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
        for _ in range(self._repeats):
            for peer in peers:
                samples[peer.name].append(measure(peer))
        for name, found in samples.items():
            spread = Spread.of([sample[cell.headline] for sample in found])
            values = f"{spread.median:,.3g} ({spread.low:,.3g} to {spread.high:,.3g})"
            _say(f"    {name:12} {cell.headline} {values}")
        is_counted = cell.is_counted and self._can_count
        counts = {peer.name: _counts(peer, measure) for peer in peers} if is_counted else {}
        return {"samples": samples, "counts": counts}


def _counts(peer: Peer, measure: Measure) -> Sample:
    """Of one more run, whose times are not reported."""
    found: Sample = {}
    with counted(peer.pid, found):
        messages = measure(peer)["messages"]
    return {name: count / messages * 1000 for name, count in found.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
