"""Memory in flight stays bounded, nobody waits for ever, and nobody jumps the queue."""

import random

import anyio
import pytest

from broker.net.budget import Account, Budget


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def receive(account: Account, size: int, *, in_frame: bool = False) -> None:
    """What a connection does before each read."""
    while not account.may_receive(in_frame=in_frame):
        await account.room(in_frame=in_frame)
    account.received(size)


async def test_a_spent_budget_makes_readers_wait_until_something_is_released() -> None:
    budget = Budget(100)
    first, second = budget.account(), budget.account()
    await receive(first, 100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive, second, 50)
        await settle()
        assert (budget.used_size, budget.is_spent) == (100, True)
        first.release(60)
        await settle()
        assert (budget.used_size, budget.is_spent) == (90, False)


async def test_waiters_are_served_in_the_order_they_came() -> None:
    budget = Budget(100)
    holder = budget.account()
    await receive(holder, 100)
    order: list[int] = []

    async def wait(number: int) -> None:
        await receive(budget.account(), 100)
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(wait, number)
            await settle()
        newcomer = budget.account()
        assert not newcomer.may_receive(in_frame=True) or budget.used_size >= 100
        holder.release(100)
        await settle()
        assert order == [0]
        budget.size_max = 10**6
        holder.charge(1)
        holder.release(1)
        await settle()
    assert order == [0, 1, 2, 3, 4]


async def test_half_received_frames_that_fill_the_budget_cannot_block_each_other_for_ever() -> None:
    """Ten frames of 50 bytes against 100: one at a time overdraws, and all get through."""
    budget = Budget(100)

    async def frame() -> None:
        account = budget.account()
        for size in (10,) * 5:
            await receive(account, size, in_frame=account.held_size > 0)
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        account.release(50)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(frame)
    assert budget.used_size == 0
    assert budget.used_size_peak <= 100 + 50


async def test_a_connection_that_dies_in_line_or_with_the_turn_passes_it_on() -> None:
    budget = Budget(100)
    holder, dying, living = budget.account(), budget.account(), budget.account()
    await receive(holder, 100)
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def die() -> None:
            with scope:
                await dying.room(in_frame=False)

        tasks.start_soon(die)
        await settle()
        tasks.start_soon(receive, living, 10)
        await settle()
        holder.release(100)  # Gives the turn to `dying` …
        scope.cancel()  # … which never receives.
        dying.close()
        with anyio.fail_after(5):
            await settle()
    assert living.held_size == 10
    assert budget.used_size == 10


async def test_closing_gives_everything_back() -> None:
    budget = Budget(100)
    account = budget.account()
    account.charge(70)
    account.close()
    assert budget.used_size == 0


@pytest.mark.parametrize("seed", range(20))
async def test_any_mix_of_readers_comes_to_an_end(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    budget = Budget(200)

    async def connection() -> None:
        account = budget.account()
        for _ in range(rng.randrange(1, 6)):
            started = 0
            for _ in range(rng.randrange(1, 5)):
                await receive(account, 40, in_frame=started > 0)
                started += 40
                if rng.random() < 0.3:
                    await anyio.lowlevel.checkpoint()
                if rng.random() < 0.1:
                    account.close()
                    return
            await anyio.lowlevel.checkpoint()
            account.charge(30)
            account.release(started)
            await anyio.lowlevel.checkpoint()
            account.release(30)
        account.close()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(connection)
    assert budget.used_size == 0
    assert not budget.is_spent
