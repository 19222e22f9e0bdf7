"""Whoever waits at a gate gets through it, once and for all."""

import anyio

from broker.gate import Gate


async def test_all_who_wait_get_through_and_so_do_those_who_come_later() -> None:
    gate = Gate()
    passed = []

    async def wait(name: str) -> None:
        await gate.wait()
        passed.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "a")
        tasks.start_soon(wait, "b")
        await anyio.wait_all_tasks_blocked()
        assert not gate.is_set()
        assert not passed
        gate.set()
    await wait("c")
    assert sorted(passed) == ["a", "b", "c"]


async def test_who_gives_up_does_not_keep_the_others_out() -> None:
    gate = Gate()
    with anyio.move_on_after(0.001):
        await gate.wait()
    gate.set()
    await gate.wait()
