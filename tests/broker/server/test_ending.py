"""A node that fails before it serves, or for two reasons, or is told twice to stop."""

import os
import signal

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from broker.server.ending import DiskFailed, Ending, TakenOut
from tests.broker.one_node import ManualClock


async def test_metadata_that_fails_before_anybody_waits_for_the_end() -> None:
    """Its thread runs before the node serves: what it says then must not be lost."""
    ending = Ending(1, ManualClock())
    await anyio.to_thread.run_sync(ending.metadata_failed, ValueError("a bug"))
    with anyio.fail_after(10):
        await ending.begun()
    assert isinstance(ending.failure, DiskFailed)
    assert "metadata: a bug" in str(ending.failure)


async def test_the_first_reason_is_the_one_that_is_told() -> None:
    ending = Ending(7, ManualClock())
    ending.taken_out()
    ending.disk_failed(OSError("EIO"))
    assert isinstance(ending.failure, TakenOut)
    assert "node 7" in str(ending.failure)


async def test_a_start_that_waits_for_ever_is_cancelled() -> None:
    ending = Ending(1, ManualClock())
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as starting:
                tasks.start_soon(ending.cancel, starting)
                ending.disk_failed(OSError("EIO"))
                await anyio.sleep_forever()
            assert starting.cancelled_caught


class Seconds(ManualClock):
    """Monotonic time under the test's control."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def test_a_signal_that_came_twice_ends_nothing_at_once_but_a_later_one_does() -> None:
    """`timeout` and some supervisors signal a process and its group."""
    clock = Seconds()
    lived_on: list[bool] = []

    async def main() -> None:
        ending = Ending(1, clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ending.await_signals)
            await anyio.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGTERM)
            await ending.begun()
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(20):  # turns of the loop: to hear it
                await anyio.lowlevel.checkpoint()
            lived_on.append(ending.failure is None)
            clock.seconds += 1.1
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main)
    assert lived_on == [True]
