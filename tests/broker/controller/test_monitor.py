"""When segments roll, and what one of them may cost the others."""

from typing import cast

import anyio
import anyio.lowlevel

from broker.controller.monitor import ROLLS_MAX, Monitor, RollLimits
from broker.controller.partition import LocalPartition


class Misplaced:
    """A partition that is to roll because its replicas are to be elsewhere."""

    bucket = None


async def test_a_rollover_that_nobody_decides_holds_up_no_other_topic() -> None:
    stuck, other = (cast(LocalPartition, Misplaced()) for _ in range(2))
    rolled: list[LocalPartition] = []

    async def roll(partition: LocalPartition, _: str) -> None:
        rolled.append(partition)
        if partition is stuck:
            await anyio.sleep_forever()

    monitor = Monitor(
        RollLimits(1, 1),
        misplaced=lambda _: "a node joined",
        now_ms=lambda: 0,
        interval_ms=1,
        partitions=lambda: [stuck, other],
        roll=roll,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        with anyio.fail_after(10):
            while rolled.count(other) < 3:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert rolled.count(stuck) == 1


async def test_many_segments_that_are_due_at_once_do_not_all_roll_at_once() -> None:
    partitions = [cast(LocalPartition, Misplaced()) for _ in range(5 * ROLLS_MAX)]
    rolling = most = done = 0

    async def roll(_: LocalPartition, __: str) -> None:
        nonlocal rolling, most, done
        rolling += 1
        most = max(most, rolling)
        await anyio.lowlevel.checkpoint()
        rolling -= 1
        done += 1

    monitor = Monitor(
        RollLimits(1, 1),
        misplaced=lambda _: "a node joined",
        now_ms=lambda: 0,
        interval_ms=1,
        partitions=lambda: partitions,
        roll=roll,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        with anyio.fail_after(10):
            while done < len(partitions):
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert 1 < most <= ROLLS_MAX
