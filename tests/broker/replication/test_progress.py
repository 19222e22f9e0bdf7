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
