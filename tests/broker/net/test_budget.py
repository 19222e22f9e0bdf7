"""Memory in flight stays bounded, nobody waits for ever, and nobody jumps the queue."""

import random

import anyio
import pytest

from broker.net.budget import Account, Budget
from broker.ports import Memory


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
        holder.charge_reply(1)
        holder.release_reply(1)
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
    account.received(50)
    account.charge_reply(20)
    account.close()
    assert budget.used_size == 0


async def test_large_replies_are_made_as_memory_allows() -> None:
    """Ten replies of 40 against 100 for replies: two at a time, and an unsent one still counts."""
    budget = Budget(200)
    accounts = [budget.account() for _ in range(10)]
    made: list[int] = []

    async def make(number: int) -> None:
        async with budget.reserve(40):
            await anyio.lowlevel.checkpoint()
        accounts[number].charge_reply(40)
        made.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(make, number)
        for count in range(2, 11, 2):
            await settle()
            assert made == list(range(count))
            for number in made[-2:]:
                accounts[number].release_reply(40)
    await settle()
    assert budget.used_size == 0


async def test_protocols_see_the_budget_as_memory() -> None:
    budget = Budget(200)
    memory: Memory = budget
    async with memory.reserve(60):
        assert budget.reply_size == 60
    await settle()
    assert budget.reply_size == 0


async def test_a_reply_larger_than_all_may_be_is_made_alone() -> None:
    budget = Budget(200)
    account = budget.account()
    account.charge_reply(1)
    async with anyio.create_task_group() as tasks:
        is_made = anyio.Event()

        async def make() -> None:
            async with budget.reserve(1_000):
                is_made.set()

        tasks.start_soon(make)
        await settle()
        assert not is_made.is_set()
        account.release_reply(1)
        with anyio.fail_after(5):
            await is_made.wait()
    await settle()
    assert budget.used_size == 0


async def test_requests_that_wait_for_their_replies_do_not_block_them() -> None:
    """The whole budget is requests, which are released only when their replies are made."""
    budget = Budget(200)

    async def exchange() -> None:
        account = budget.account()
        account.received(100)
        async with budget.reserve(90):
            await anyio.lowlevel.checkpoint()
        account.charge_reply(90)
        account.release(100)
        await anyio.lowlevel.checkpoint()
        account.release_reply(90)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(exchange)
    await settle()
    assert budget.used_size == 0


async def test_a_maker_that_gives_up_in_line_holds_up_nobody() -> None:
    budget = Budget(200)
    holder = budget.account()
    holder.charge_reply(90)
    is_made = anyio.Event()
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def give_up() -> None:
            with scope:
                async with budget.reserve(50):
                    raise AssertionError("there is no room")

        async def make() -> None:
            async with budget.reserve(10):
                is_made.set()

        tasks.start_soon(give_up)
        await settle()
        tasks.start_soon(make)
        await settle()
        assert not is_made.is_set()
        scope.cancel()
        await settle()
        assert is_made.is_set()
    await settle()
    assert budget.used_size == 90


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
            async with budget.reserve(rng.choice([10, 90, 1_000])):
                await anyio.lowlevel.checkpoint()
            account.charge_reply(30)
            account.release(started)
            await anyio.lowlevel.checkpoint()
            account.release_reply(30)
        account.close()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(connection)
    await settle()
    assert budget.used_size == 0
    assert not budget.is_spent
