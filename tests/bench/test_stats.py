"""Medians, ratios and percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Spread, latencies, percentile, ratio, spreads

values = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=50)


@given(values)
def test_a_spread_lies_within_what_was_measured(values: list[float]) -> None:
    found = Spread.of(values)

    assert found.low == min(values) <= found.median <= max(values) == found.high


@given(values, st.sampled_from([0.01, 0.5, 0.99, 0.999, 1.0]))
def test_a_percentile_that_too_few_values_reach(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)

    reached = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert reached >= share * len(values) - 1e-6
    assert below < share * len(values) + 1e-6


def test_percentiles_of_a_thousand() -> None:
    found = latencies([float(number) for number in range(1, 1001)])

    assert found == {"p50_ms": 500.0, "p99_ms": 990.0, "p999_ms": 999.0}


@pytest.mark.parametrize("share", [0, 1.1])
def test_a_percentile_that_does_not_exist(share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([1.0], share)


def test_the_ratio_is_that_of_neighbours() -> None:
    # The machine was three times slower in the second round: for both.
    assert ratio([30.0, 10.0, 30.0], [15.0, 5.0, 15.0]) == 2.0
    assert ratio([1.0], [0.0]) is None


def test_a_measure_that_one_repeat_lacks() -> None:
    found = spreads([{"a": 1.0, "b": 2.0}, {"a": 3.0}])

    assert found == {"a": Spread(2.0, 1.0, 3.0)}
    assert spreads([]) == {}
