"""Runs cells: interleaved, each repeated, with progress, into one result."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.cells import Cell, Measure
from bench.meter import Bystanders, can_count, counted
from bench.pages import forget_pages
from bench.peers import Peer
from bench.plan import Budget, turns
from bench.stage import Stage
from bench.stats import Sample, Spread


class Runner:
    """One run of the whole."""

    def __init__(self, stage: Stage, budget: Budget) -> None:
        self._stage = stage
        self._budget = budget
        self._can_count = can_count()
        self.results: list[dict[str, Any]] = []
        """A row per cell, as it goes into the JSON file."""
        self.left_out: list[str] = []
        """Those that there was no time for."""

    def run(self, cells: Sequence[Cell]) -> None:
        """A cell that fails is reported as failed; the others go on. One that there is no time for
        is thought of again after each of the others."""
        began = time.monotonic()
        left, expected_s = list(cells), 0.0
        while True:
            passed_s = time.monotonic() - began
            # What went wrong in the first cells says little about the others.
            pace = (passed_s + 60) / (expected_s + 60)
            out = self._budget.left_out(left, passed_s=passed_s, pace=pace)
            todo = [cell for index, cell in enumerate(left) if index not in out]
            if not todo:
                break
            self._announce(todo, pace)
            cell = todo.pop(0)
            left = [one for one in left if one is not cell]
            self.results.append(self._row(cell))
            expected_s += self._budget.expected_s(cell)
            if all(one.label != cell.label for one in todo):
                self._stage.release(cell.label)
            if all(one.section != cell.section for one in todo):
                self._stage.delete_topics()
        self.left_out = [f"{cell.section}: {cell.name}" for cell in left]

    def _announce(self, todo: Sequence[Cell], pace: float) -> None:
        done, left_s = len(self.results), pace * sum(map(self._budget.expected_s, todo))
        progress = f"{done + 1}/{done + len(todo)}, {left_s / 60:.0f} min left"
        _say(f"[{progress}] {todo[0].section}: {todo[0].name}")

    def _row(self, cell: Cell) -> dict[str, Any]:
        row = {"section": cell.section, "name": cell.name, "headline": cell.headline}
        bystanders = Bystanders()
        try:
            row |= self._cell(cell)
        except Exception as error:  # noqa: BLE001  Whatever it is, it stands on the page.
            notes = getattr(error, "__notes__", [])
            failure = ": ".join([*notes, type(error).__name__, str(error)])
            _say(f"    FAILED: {failure}")
            row |= {"failure": failure}
        return row | {"bystanders_percent": bystanders.percent()}

    def _cell(self, cell: Cell) -> dict[str, Any]:
        peers = [
            self._stage.peer(kind, cell.durability, cell.label, is_warm=cell.is_warm)
            for kind in cell.peers
        ]
        measure = cell.begin(self._stage, peers)
        samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
        for turn in turns(peers, self._budget.repeats):
            for peer in turn:
                if not cell.reads_stored:
                    for each in peers:
                        forget_pages(each.folder)
                with _named(peer):
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
    with counted(peer.pids, found):
        messages = measure(peer)["messages"]
    return {name: count / messages * 1000 for name, count in found.items()}


@contextmanager
def _named(peer: Peer) -> Iterator[None]:
    """Whose run it was that failed."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while {peer.name} was measured")
        raise


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
