"""The selection of workloads."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bench.matrix import ALL_COUNT, PRODUCER_FACTORS, producer_cells, spread

factors = st.lists(st.integers(1, 3).map(lambda count: tuple(range(count))), min_size=2, max_size=4)


@given(factors, st.integers(0, 30))
def test_two_settings_that_never_meet(factors: list[tuple[int, ...]], count: int) -> None:
    rows = spread(factors, count)

    for (first, values), (second, others) in combinations(enumerate(factors), 2):
        met = {(row[first], row[second]) for row in rows}
        assert met == {(value, other) for value in values for other in others}


@given(factors, st.integers(0, 30))
def test_a_workload_that_is_run_twice(factors: list[tuple[int, ...]], count: int) -> None:
    rows = spread(factors, count)

    assert len(rows) == len(set(rows))


def test_a_default_selection_that_grows_unnoticed() -> None:
    cells = producer_cells(16)

    assert len(cells) == 16
    assert len({cell.name for cell in cells}) == 16
    assert cells == producer_cells(16), "the same selection each time"
    assert len(producer_cells(0)) < 16, "the pairs alone need fewer"
    assert {cell.client for cell in cells} == set(PRODUCER_FACTORS["client"])


def test_a_setting_that_cannot_be_chosen() -> None:
    names = {cell.name for cell in producer_cells(ALL_COUNT)}

    assert len(names) == ALL_COUNT
    assert "java 1000 B lz4 linger 0 batch 16K acks all cache" in names
