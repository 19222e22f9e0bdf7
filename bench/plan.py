"""What fits into the time that there is (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from bench.cells import Cell, Options

_T = TypeVar("_T")

SECONDS_MIN: Final = 1.0
"""Of one run. Below, it is mostly the beginning and the end of a client."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Decides which of the cells that are left are run, while time passes.

    At first by what each is expected to take; the longer the run, the more by what they took.
    """

    minutes: float
    seconds: float
    repeats: int

    def expected_s(self, cell: Cell) -> float:
        return cell.expected_s(self.seconds, self.repeats)

    def left_out(self, cells: Sequence[Cell], *, passed_s: float, pace: float) -> set[int]:
        """Indexes of those to leave out, the least important first, and of these the last of each
        section.

        `pace`: what cells took, as a multiple of what they were expected to take.
        """
        room_s = self.minutes * 60 - passed_s
        needed_s = [self.expected_s(cell) * pace for cell in cells]
        out: set[int] = set()
        place = {index: (cell.rank, _place(cells, index)) for index, cell in enumerate(cells)}
        by_importance = sorted(place, key=lambda index: place[index])
        while by_importance and sum(needed_s) - sum(needed_s[index] for index in out) > room_s:
            out.add(by_importance.pop())
        return out


def _place(cells: Sequence[Cell], index: int) -> int:
    """In its section."""
    return sum(before.section == cells[index].section for before in cells[:index])


def turns(sides: Sequence[_T], repeats: int) -> Iterator[Sequence[_T]]:
    """The order of each round: A B, B A, A B and so on. Drift of the machine, and what
    the run before does to the next, touch all sides alike."""
    for number in range(repeats):
        yield sides if number % 2 == 0 else sides[::-1]


def shorten(options: Options, minutes: float) -> Options:
    """Shorter runs where there is little time: more cells tell more than longer ones."""
    if minutes == float("inf"):
        return options
    return replace(options, seconds=SECONDS_MIN if minutes <= 60 else min(options.seconds, 2.0))
