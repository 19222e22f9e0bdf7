"""The loop: the seed decides the order, time jumps, and what can never go on says so."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from tests.sim.loop import NOBODY, OWNER, SimLoop, Stuck, deterministic


def run(loop: SimLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with deterministic(loop):
        loop.run_until_complete(main())
        loop.close()


def order(seed: int) -> list[int]:
    """In which twenty tasks that do the same were run."""
    seen: list[int] = []

    async def task(number: int) -> None:
        await anyio.sleep(1.0)
        seen.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(task, number)

    run(SimLoop(seed), main)
    return seen


def test_the_seed_decides_the_order() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(2)) == list(range(20))


def test_an_hour_takes_no_time() -> None:
    loop = SimLoop(1)
    run(loop, lambda: anyio.sleep(3600.0))
    assert loop.time() == pytest.approx(4600.0)


def test_waiting_for_what_nobody_does_is_noticed() -> None:
    async def main() -> None:
        await anyio.Event().wait()

    loop = SimLoop(1)
    task = loop.create_task(main())
    with pytest.raises(Stuck, match="nothing is scheduled"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_turning_for_ever_is_noticed() -> None:
    async def main() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    loop = SimLoop(1)
    task = loop.create_task(main())
    with pytest.raises(Stuck, match="time does not move"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_a_frozen_owner_stands_still_and_then_goes_on() -> None:
    loop = SimLoop(1)
    seen: list[tuple[float, int]] = []

    async def beat() -> None:
        while True:
            await anyio.sleep(1.0)
            seen.append((loop.time() - 1000.0, OWNER.get()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for owner in (1, 2):
                context = NOBODY.copy()
                context.run(OWNER.set, owner)
                context.run(tasks.start_soon, beat)
            await anyio.sleep(1.5)
            loop.freeze(1)
            await anyio.sleep(3.0)
            loop.thaw(1)
            await anyio.sleep(1.0)
            tasks.cancel_scope.cancel()

    run(loop, main)
    assert [at for at, owner in seen if owner == 2] == pytest.approx([1, 2, 3, 4, 5])
    assert [at for at, owner in seen if owner == 1] == pytest.approx([1, 4.5, 5.5])
