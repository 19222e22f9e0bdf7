"""What an operator sees of groups: states, members, lag, and what happened to them."""

from collections.abc import Iterable
from uuid import UUID

from broker.groups.counts import Counts
from broker.groups.group import Group
from broker.groups.messages import Join
from broker.groups.records import OffsetValue
from broker.groups.samples import LAG_SERIES_MAX, samples
from broker.groups.shard import Entry
from broker.groups.states import GroupLimits

LIMITS = GroupLimits(initial_delay_ms=100)
T, U, GONE = UUID(int=1), UUID(int=2), UUID(int=3)


def where(topic_id: UUID) -> tuple[str, int] | None:
    return {T: ("t", 100), U: ("u", 5)}.get(topic_id)


def entry(name: str, **offsets: int) -> Entry:
    ids = {"t": T, "u": U, "gone": GONE}
    found = Entry(Group(name, LIMITS))
    found.offsets = {ids[topic]: OffsetValue(at, -1, "", 0) for topic, at in offsets.items()}
    return found


def shown(entries: Iterable[Entry], counts: Counts | None = None) -> dict[tuple[str, ...], float]:
    found = list(samples(entries, counts or Counts(), where))
    assert all(isinstance(one.value, int) for one in found)
    return {(one.family.name, *one.labels): one.value for one in found}  # type: ignore[misc]


def join(number: int, *, session_ms: int = 6_000) -> Join:
    return Join(
        ticket=number,
        member_id="",
        fresh_id=f"m{number}",
        session_ms=session_ms,
        rebalance_ms=10_000,
        protocol_type="consumer",
        protocols=(("range", b""),),
    )


def test_lag_is_what_lies_between_the_position_and_the_end() -> None:
    found = shown([entry("g", t=90, u=5), entry("h", t=0, gone=7), entry("ahead", u=9)])
    lag = "walrus_group_lag_records"
    assert {key[1:]: value for key, value in found.items() if key[0] == lag} == {
        ("g", "t"): 10,
        ("g", "u"): 0,
        ("h", "t"): 100,
        ("ahead", "u"): 0,
    }
    assert found[("walrus_group_lag_hidden_positions",)] == 1
    assert found[("walrus_group_groups", "Empty")] == 3


def test_a_million_positions_make_a_thousand_series() -> None:
    entries = [entry(f"g{number}", t=0, u=0) for number in range(LAG_SERIES_MAX)]
    found = shown(entries)
    assert sum(key[0] == "walrus_group_lag_records" for key in found) == LAG_SERIES_MAX
    assert found[("walrus_group_lag_hidden_positions",)] == LAG_SERIES_MAX
    assert found[("walrus_group_groups", "Empty")] == LAG_SERIES_MAX


def test_members_that_fall_silent_are_counted_by_what_they_owed() -> None:
    counts = Counts()
    group = Group("g", LIMITS, counts)
    group.join(join(1), 0)
    group.join(join(2, session_ms=60_000), 0)
    group.tick(100)
    group.tick(200)
    assert counts.rebalances == 1
    found = shown([Entry(group)], counts)
    assert found[("walrus_group_members",)] == 2
    assert found[("walrus_group_groups", "CompletingRebalance")] == 1
    group.tick(6_200)
    assert counts.dropped == {"session": 1, "join": 0, "sync": 0}
    group.tick(16_200)
    assert counts.dropped == {"session": 1, "join": 1, "sync": 0}
    group.join(join(3, session_ms=60_000), 20_000)
    group.tick(20_100)
    group.tick(20_200)
    group.tick(30_200)
    assert counts.dropped == {"session": 1, "join": 1, "sync": 1}
    assert counts.rebalances == 2
    found = shown([Entry(group)], counts)
    assert found[("walrus_group_members_dropped_total", "sync")] == 1
    assert found[("walrus_group_rebalances_total",)] == 2
