"""A time that is given is kept, and what is left out is what tells least."""

from hypothesis import given
from hypothesis import strategies as st

from bench.cells import Cell, Measure, Options
from bench.peers import Peer
from bench.plan import Budget, shorten, turns
from bench.sections import SECTIONS
from bench.stage import Stage


def begin(stage: Stage, peers: list[Peer]) -> Measure:
    raise AssertionError


def cell(rank: int, setup_s: float = 0.0) -> Cell:
    return Cell("section", "name", begin, rank=rank, setup_s=setup_s)


def test_with_enough_time_nothing_is_left_out() -> None:
    for minutes in (10_000, float("inf")):
        budget = Budget(minutes, seconds=3, repeats=5)
        cells = [cell for section in SECTIONS.values() for cell in section(Options())]
        assert budget.left_out(cells, passed_s=0, pace=2.0) == set()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.floats(0, 500))),
    st.floats(0, 2000),
    st.floats(0.1, 10),
)
def test_the_rest_fits_and_none_of_it_is_less_telling(
    cells: list[tuple[int, float]], passed_s: float, pace: float
) -> None:
    budget = Budget(minutes=30, seconds=1, repeats=5)
    given_cells = [cell(rank, setup_s) for rank, setup_s in cells]
    out = budget.left_out(given_cells, passed_s=passed_s, pace=pace)
    kept = [one for index, one in enumerate(given_cells) if index not in out]
    assert sum(one.expected_s(1, 5) for one in kept) * pace <= max(1800 - passed_s, 0) + 1e-6
    gone = [given_cells[index].rank for index in out]
    assert max((one.rank for one in kept), default=0) <= min(gone, default=9)


def test_half_an_hour_has_something_of_every_section() -> None:
    options = shorten(Options(), 30)
    cells = [cell for section in SECTIONS.values() for cell in section(options)]
    out = Budget(30, options.seconds, 5).left_out(cells, passed_s=0, pace=1.0)
    kept = [one for index, one in enumerate(cells) if index not in out]
    assert {one.section.replace(" ", "-") for one in kept} >= set(SECTIONS) - {"topics"}
    assert {one.rank for one in kept} >= {1}


def test_no_side_always_goes_first() -> None:
    rounds = [tuple(turn) for turn in turns(["ours", "theirs"], 5)]

    there, back = ("ours", "theirs"), ("theirs", "ours")
    assert rounds == [there, back, there, back, there]
