"""Positions that go too early, or never."""

from uuid import UUID

import pytest

from broker.groups.expiry import expired
from broker.groups.records import OffsetValue
from broker.groups.states import State

T, U = UUID(int=1), UUID(int=2)
RETENTION_MS = 1_000


def gone(
    value: OffsetValue,
    *,
    now_ms: int,
    state: State = State.EMPTY,
    had_members: bool = True,
    empty_since_ms: int = -1,
    topics: tuple[UUID, ...] = (T,),
    group: str = "g",
) -> bool:
    found = expired(
        group,
        {T: value},
        state=state,
        has_had_members=had_members,
        empty_since_ms=empty_since_ms,
        now_ms=now_ms,
        retention_ms=RETENTION_MS,
        exists=topics.__contains__,
    )
    return found == [T]


def committed(time_ms: int, expire_ms: int = -1) -> OffsetValue:
    return OffsetValue(7, -1, "", time_ms, expire_ms)


def test_the_clock_of_a_group_that_had_members_starts_when_it_is_empty() -> None:
    value = committed(0)
    assert not gone(value, now_ms=5_999, empty_since_ms=5_000)
    assert gone(value, now_ms=6_000, empty_since_ms=5_000)


def test_the_clock_of_a_group_by_hand_starts_with_each_commit() -> None:
    value = committed(0)
    assert not gone(value, now_ms=999, had_members=False)
    assert gone(value, now_ms=1_000, had_members=False)


def test_a_commit_to_a_group_that_is_empty_for_long() -> None:
    assert not gone(committed(9_500), now_ms=10_000, empty_since_ms=0)


@pytest.mark.parametrize("state", [State.STABLE, State.PREPARING, State.COMPLETING])
def test_nothing_goes_while_somebody_is_there(state: State) -> None:
    assert not gone(committed(0), now_ms=10**12, state=state)
    assert not gone(committed(0, 1), now_ms=10**12, state=state)


def test_a_time_of_the_clients_own_wins() -> None:
    assert not gone(committed(0, 5_000), now_ms=4_999)
    assert gone(committed(0, 5_000), now_ms=5_000)


@pytest.mark.parametrize("state", [State.STABLE, State.EMPTY])
def test_a_topic_that_is_gone_takes_its_positions_along(state: State) -> None:
    assert gone(committed(0), now_ms=0, state=state, topics=(U,))


def test_a_cursor_of_native_get_that_hands_everything_out_again() -> None:
    value = committed(0)
    assert not gone(value, now_ms=10**12, had_members=False, group="walrus.get.t")
    assert gone(value, now_ms=0, had_members=False, group="walrus.get.t", topics=())
