"""Timers: too late is a ghost in the group, too often is a busy loop."""

from broker.groups.group import Group
from broker.groups.states import GroupLimits
from broker.groups.timers import Timers
from tests.broker.one_node import ManualClock


class Watch(ManualClock):
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def group(wake_ms: int | None) -> Group:
    made = Group("g", GroupLimits())
    made.wake_ms = wake_ms
    return made


def test_a_group_that_is_due_earlier_than_it_said() -> None:
    watch = Watch()
    timers = Timers(watch)
    one = group(5_000)
    timers.set(one)
    one.wake_ms = 1_000
    timers.set(one)
    watch.seconds = 1.0
    assert timers.due() == [one]
    watch.seconds = 10.0
    assert timers.due() == [], "its old moment counts no more"


def test_a_group_that_is_heard_of_all_the_time_costs_one_moment() -> None:
    watch = Watch()
    timers = Timers(watch)
    one = group(1_000)
    for wake_ms in range(1_000, 100_000, 100):
        one.wake_ms = wake_ms
        timers.set(one)
    watch.seconds = 1.0
    assert timers.due() == [one]
    timers.set(one)
    watch.seconds = 99.0
    assert timers.due() == []
    watch.seconds = 100.0
    assert timers.due() == [one]


def test_groups_come_in_the_order_of_their_moments_and_those_without_never() -> None:
    watch = Watch()
    timers = Timers(watch)
    late, early, never = group(2_000), group(1_000), group(None)
    for one in (late, early, never):
        timers.set(one)
    watch.seconds = 0.999
    assert timers.due() == []
    watch.seconds = 5.0
    assert timers.due() == [early, late]
