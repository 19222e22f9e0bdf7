"""Those who wait for durability: woken in order, and none is forgotten."""

import anyio
import pytest

from broker.errors import StorageFailed
from broker.replication.progress import Progress


async def test_waiters_wake_when_the_mark_passes_them_and_not_before() -> None:
    progress = Progress(0)
    woken: list[int] = []

    async def wait(offset: int) -> None:
        await progress.reach(offset)
        woken.append(offset)

    async with anyio.create_task_group() as tasks:
        for offset in (30, 10, 20):
            tasks.start_soon(wait, offset)
        await anyio.wait_all_tasks_blocked()
        progress.advance(9)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        progress.advance(20)
        await anyio.wait_all_tasks_blocked()
        assert woken == [10, 20]
        progress.advance(30)
    assert woken == [10, 20, 30]


async def test_a_failed_disk_wakes_everybody_and_spares_what_was_safe() -> None:
    progress = Progress(0)
    failures: list[Exception] = []

    async def wait() -> None:
        try:
            await progress.reach(50)
        except StorageFailed as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        progress.advance(40)
        progress.fail(StorageFailed("EIO"))
    assert len(failures) == 1
    await progress.reach(40)
    with pytest.raises(StorageFailed):
        await progress.reach(41)


async def test_the_mark_never_goes_back() -> None:
    progress = Progress(10)
    progress.advance(5)
    assert progress.offset == 10


async def test_one_timer_ends_every_wait_at_its_own_time_and_no_other() -> None:
    progress = Progress(0)
    outcomes: dict[str, Exception | None] = {}

    def wait(name: str, offset: int, timeout_s: float | None) -> None:
        progress.call(offset, lambda failure: outcomes.update({name: failure}), timeout_s=timeout_s)

    wait("late", 10, 60.0)
    wait("soon", 30, 0.01)
    wait("sooner", 20, 0.005)
    wait("for ever", 40, None)
    while len(outcomes) < 2:
        await anyio.sleep(0.001)
    assert list(outcomes) == ["sooner", "soon"]
    assert all(isinstance(failure, TimeoutError) for failure in outcomes.values())
    progress.advance(10)
    assert outcomes["late"] is None
    wait("after a pause", 40, 0.001)
    while len(outcomes) < 4:
        await anyio.sleep(0.001)
    assert "for ever" not in outcomes
    progress.advance(40)
    assert outcomes["for ever"] is None


async def test_who_asks_after_the_failure_is_told_at_once() -> None:
    progress = Progress(0)
    told: list[Exception | None] = []
    progress.advance(5)
    progress.fail(StorageFailed("EIO"))
    progress.call(5, told.append)
    progress.call(6, told.append, timeout_s=30)
    assert told[0] is None
    assert isinstance(told[1], StorageFailed)


async def test_a_wait_that_was_cancelled_does_not_disturb_the_others() -> None:
    progress = Progress(0)
    with anyio.move_on_after(0.001):
        await progress.reach(1)
    with pytest.raises(TimeoutError):
        await progress.reach(1, timeout_s=0.001)
    progress.advance(1)
    await progress.reach(1)
