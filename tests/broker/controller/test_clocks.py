"""What deletes by age, and a clock that is wrong: nothing goes because of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from broker.controller.clocks import WallTime

T0 = 1_700_000_000_000
DAY_MS = 86_400_000


@dataclass
class Ticking:
    """Both clocks by hand, and what the other nodes tell."""

    wall_ms: int = T0
    monotonic_s: float = 0.0
    told: Sequence[int] | None = ()

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.monotonic_s

    async def others(self) -> Sequence[int] | None:
        return self.told

    async def look_after(self, time: WallTime, wall_ms: int, monotonic_s: float) -> bool:
        """Whether the time is believed."""
        self.wall_ms += wall_ms
        self.monotonic_s += monotonic_s
        return await time.now_ms() is not None


@pytest.mark.parametrize("jump_ms", [3_600_001, -3_600_001, 400 * DAY_MS])
async def test_a_clock_that_has_nobody_to_ask_is_not_believed_at_once(jump_ms: int) -> None:
    clock = Ticking()
    time = WallTime(clock, clock.others)
    assert await clock.look_after(time, 0, 0)
    assert await clock.look_after(time, 30 * DAY_MS, 30 * DAY_MS / 1000)
    assert await clock.look_after(time, 3_600_000, 0), "adjusted, not jumped"
    assert not await clock.look_after(time, jump_ms, 0)
    assert await clock.look_after(time, 1000, 1)


@pytest.mark.parametrize(
    ("own_ms", "told", "believed"),
    [
        (T0, (), T0),
        (T0, (T0 + 5,), T0),
        (T0 + 5, (T0,), T0),
        (T0, (T0 + 1, T0 + 2), T0 + 1),
        (T0, (T0, T0 + 4000 * DAY_MS), T0),
        (T0 + 4000 * DAY_MS, (T0 + 1, T0), T0 + 1),
        (T0 + 4000 * DAY_MS, (T0,), T0),
        (T0 - 4000 * DAY_MS, (T0, T0 + 1), T0),
        (T0, (T0 + 1, T0 + 4000 * DAY_MS, T0 + 4000 * DAY_MS), T0 + 1),
        (T0 + 4000 * DAY_MS, None, None),
    ],
)
async def test_one_wrong_clock_does_not_say_what_time_it_is(
    own_ms: int, told: Sequence[int] | None, believed: int | None
) -> None:
    clock = Ticking()
    time = WallTime(clock, clock.others)
    clock.wall_ms, clock.told = own_ms, told
    assert await time.now_ms() == believed


async def test_a_node_that_comes_up_years_ahead_believes_the_others() -> None:
    clock = Ticking(T0 + 4000 * DAY_MS, told=(T0, T0))
    time = WallTime(clock, clock.others)
    assert await time.now_ms() is None, "it has just learned that its own time was wrong"
    assert await time.now_ms() == T0
