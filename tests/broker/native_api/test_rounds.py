"""A GET without a task gives what one with a task gives, whatever the log and the cursor go
through."""

import random

import anyio
import pytest

from broker.errors import RequestError, StorageFailed
from tests.broker.native_api.batches import CODECS, batch, garbage_batch, torn_batch
from tests.broker.native_api.harness import running
from tests.broker.native_api.test_cursor import Shared, sharing


def some_batch(rng: random.Random) -> bytes:
    values = [b"%d" % rng.randrange(10**6) * rng.randrange(9) for _ in range(rng.randint(1, 5))]
    match rng.randrange(8):
        case 0:
            return garbage_batch(len(values))
        case 1:
            return torn_batch([b"first", *values])
        case 2:
            return batch([None], is_control=True)
        case 3:
            return batch([bytes(40_000), *values])
        case _:
            return batch(values, rng.choice(list(CODECS)))


async def taken(shared: Shared, count: int, *, is_quick: bool, is_alone: bool) -> list[object]:
    """What so many GETs of one turn get: values, and the texts of errors."""
    tickets = [shared.ticket(is_quick=is_quick, is_alone=is_alone) for _ in range(count)]
    got: list[object] = []
    for ticket in tickets:
        try:
            got.append(await ticket.taken())
        except RequestError as error:
            got.append(str(error))
    return got


@pytest.mark.parametrize("seed", range(40))
async def test_what_is_handed_out_does_not_depend_on_the_way(seed: int) -> None:
    rng = random.Random(seed)
    async with sharing() as general, sharing() as quick:
        for step in range(30):
            for _ in range(rng.randrange(3)):
                stored = some_batch(rng)
                for shared in (general, quick):
                    shared.logs.store(stored)
            match rng.randrange(6):
                case 0:
                    quick.logs.is_cached = rng.random() < 0.7
                case 1:
                    quick.offsets.must_wait = rng.random() < 0.3
                case 2:
                    back = rng.randint(0, general.position or 0)
                    if general.position is not None:
                        general.position = quick.position = back
                case 3:
                    start = rng.randint(general.logs.log_start_offset, general.logs.end_offset)
                    general.logs.log_start_offset = quick.logs.log_start_offset = start
                case 4:
                    failure = rng.choice([None, StorageFailed("the disk is full")])
                    general.offsets.failure = quick.offsets.failure = failure
            count, is_alone = rng.randint(1, 6), rng.random() < 0.3
            expected = await taken(general, count, is_quick=False, is_alone=False)
            got = await taken(quick, count, is_quick=True, is_alone=is_alone)
            assert got == expected, f"seed {seed}, step {step}"
            assert quick.position == general.position, f"seed {seed}, step {step}"
        for shared in (general, quick):
            shared.offsets.failure = None
            shared.logs.store(batch([b"last"] * 20))
        quick.offsets.must_wait, quick.logs.is_cached = False, True
        while b"last" not in (got := await taken(quick, 5, is_quick=True, is_alone=False)):
            assert got == await taken(general, 5, is_quick=False, is_alone=False), f"seed {seed}"
        before = quick.offsets.quick_count
        assert await taken(quick, 5, is_quick=True, is_alone=False) == [b"last"] * 5
        assert quick.offsets.quick_count == before + 1, f"seed {seed}"


async def test_gets_of_one_turn_share_one_commit_without_a_task() -> None:
    async with sharing() as shared:
        shared.logs.store(batch([b"%d" % number for number in range(10)]))
        shared.position = 0
        tickets = [shared.ticket(is_quick=True) for _ in range(11)]
        values = [await ticket.taken() for ticket in tickets]
        assert values == [*(b"%d" % number for number in range(10)), None]
        assert shared.offsets.quick_count == shared.offsets.commit_count == 1


async def test_a_get_without_a_task_is_answered_only_when_the_cursor_is_durable() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        logs.store(batch([b"a", b"b", b"c"]))
        assert await node.ask(b"GET logs") == [b"OK a"]
        node.offsets.gate = anyio.Event()
        client = await node.connect()
        await client.send(b"GET logs", b"GET logs", b"GET logs")
        await node.until(lambda: node.offsets.quick_count == 1)
        assert node.answered("GET") == 1
        node.offsets.gate.set()
        assert [await client.receive() for _ in range(3)] == [b"OK b", b"OK c", b"EMPTY"]


async def test_a_get_without_a_task_waits_for_the_puts_before_it_and_a_put_for_it() -> None:
    async with running() as node:
        logs = node.controller.add("logs")
        logs.store(batch([b"a"]))
        assert await node.ask(b"GET logs", b"PUT logs b", b"GET logs") == [b"OK a", b"OK", b"OK b"]
        logs.hold()
        client = await node.connect()
        await client.send(b"PUT logs c", b"GET logs", b"PUT logs d")
        await node.until(lambda: logs.end_offset == 3)
        assert node.offsets.commit_count == 2
        logs.let_go()
        assert [await client.receive() for _ in range(3)] == [b"OK", b"OK c", b"OK"]


async def test_what_a_peer_loses_that_goes_away_is_bounded_without_a_task_too() -> None:
    async with running() as node:
        node.controller.add("logs").store(batch([b"x"] * 100))
        assert await node.ask(b"GET logs") == [b"OK x"]
        node.offsets.gate = anyio.Event()
        client = await node.connect()
        await client.send(*[b"GET logs"] * 99)
        await node.until(lambda: node.offsets.quick_count > 0)
        assert max(node.offsets.positions.values()) <= 1 + 32
        node.offsets.gate.set()
        assert [await client.receive() for _ in range(99)] == [b"OK x"] * 99
