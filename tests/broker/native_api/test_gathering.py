"""Who was answered together is waited for, and never for long."""

from hypothesis import given
from hypothesis import strategies as st

from broker.native_api.gathering import PATIENCE_S, TURNS_MAX, Gathering


def test_nobody_waits_once_all_are_back() -> None:
    gathering = Gathering(3, 10.0)
    assert gathering.expects(1, 10.0)
    assert gathering.expects(2, 10.0)
    assert not gathering.expects(3, 10.0)


def test_whoever_comes_makes_the_others_wait_for_the_next() -> None:
    gathering, now = Gathering(4, 10.0), 10.0
    for came_count in (1, 2, 3):
        now += PATIENCE_S * 0.9
        assert gathering.expects(came_count, now)
    assert not gathering.expects(3, now + PATIENCE_S)


@given(st.lists(st.integers(0, 3), max_size=200))
def test_a_wait_ends_though_the_clock_stands_still(arrivals: list[int]) -> None:
    """Each arrival buys a bounded number of turns: clients that stay away cost no more."""
    gathering, came_count, turn_count = Gathering(50, 10.0), 0, 0
    arrivals.reverse()
    while gathering.expects(came_count, 10.0):
        turn_count += 1
        came_count += arrivals.pop() if arrivals else 0
    assert turn_count <= 50 * TURNS_MAX
