"""Tasks that wait for each other: none sleeps through what it waits for, none is left behind."""

import anyio

from broker.bell import Bell


async def test_everybody_who_waits_is_woken_and_nobody_who_comes_later() -> None:
    bell, woken = Bell(), list[str]()

    async def wait(name: str) -> None:
        await bell.wait()
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        bell.ring()
        for name in ("a", "b"):
            tasks.start_soon(wait, name)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        bell.ring()
        tasks.start_soon(wait, "late")
        await anyio.wait_all_tasks_blocked()
        assert woken == ["a", "b"]
        bell.ring()
    assert woken == ["a", "b", "late"]


async def test_one_who_gives_up_takes_nobody_along_and_leaves_nothing_behind() -> None:
    bell = Bell()
    woken = anyio.Event()

    async def wait() -> None:
        await bell.wait()
        woken.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        for _ in range(3):
            with anyio.move_on_after(0):
                await bell.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(bell._waiting) == 1
        bell.ring()
    assert woken.is_set()


async def test_one_who_is_woken_and_cancelled_at_once_harms_nobody() -> None:
    bell = Bell()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bell.wait)
        await anyio.wait_all_tasks_blocked()
        bell.ring()
        tasks.cancel_scope.cancel()
    bell.ring()
    assert not bell._waiting
