"""Concurrent PUTs share a batch, keep their order, and each learns its own fate."""

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from broker.errors import (
    BatchTooLarge,
    NotEnoughReplicas,
    NotLeader,
    OutcomeUnknown,
    StorageFailed,
)
from broker.native_api.gathering import SIZE_MAX
from broker.native_api.packer import RECORDS_PER_PACK_MAX, Packer
from broker.ports import Pending
from engine.batch import HEADER_SIZE, BatchHeader, parse_header
from engine.records import iter_records
from tests.broker.native_api.fakes import FakeClock, FakeController, FakePartition


@pytest.fixture
def controller() -> FakeController:
    return FakeController()


@pytest.fixture
async def packer(controller: FakeController) -> AsyncIterator[Packer]:
    packer = Packer(controller, FakeClock(), timeout_s=30.0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(packer.run)
        yield packer
        tasks.cancel_scope.cancel()


def headers(partition: FakePartition) -> list[BatchHeader]:
    return [parse_header(batch) for batch in partition.batches]


def values(partition: FakePartition) -> list[bytes | None]:
    return [
        record.value
        for batch in partition.batches
        for record in iter_records(batch[HEADER_SIZE:], parse_header(batch).record_count)
    ]


async def test_puts_of_one_loop_turn_become_one_batch_in_their_order(
    controller: FakeController, packer: Packer
) -> None:
    logs, other = controller.add("logs"), controller.add("other")
    packs = [packer.put(logs.topic, b"%d" % number) for number in range(100)]
    packs.append(packer.put(other.topic, b"elsewhere"))
    for pack in packs:
        await pack.settled()
    assert values(logs) == [b"%d" % number for number in range(100)]
    assert values(other) == [b"elsewhere"]
    assert len(logs.batches) == 1
    (header,) = headers(logs)
    assert header.base_timestamp == header.max_timestamp == FakeClock().now_ms()
    assert not header.is_log_append_time


async def test_nobody_is_answered_before_the_batch_is_durable(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs")
    logs.hold()
    first = packer.put(logs.topic, b"first")
    await anyio.wait_all_tasks_blocked()
    second = packer.put(logs.topic, b"second")
    await anyio.wait_all_tasks_blocked()
    assert len(logs.batches) == 2
    assert not first.done.is_set()
    assert not second.done.is_set()
    logs.let_go()
    await first.settled()
    await second.settled()


async def test_batches_carry_one_producer_and_a_sequence_per_topic(
    controller: FakeController, packer: Packer
) -> None:
    logs, other = controller.add("logs"), controller.add("other")
    for count in (3, 2, 4):
        packs = [packer.put(logs.topic, b"x") for _ in range(count)]
        await packer.put(other.topic, b"y").settled()
        await packs[0].settled()
    assert [(h.producer_id, h.base_sequence) for h in headers(logs)] == [
        (4_000, 0),
        (4_000, 3),
        (4_000, 5),
    ]
    assert [(h.producer_id, h.base_sequence) for h in headers(other)] == [
        (4_000, 0),
        (4_000, 1),
        (4_000, 2),
    ]
    assert controller.producer_ids == [4_000]


async def test_a_pack_never_exceeds_what_the_topic_takes(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs", configs={"max.message.bytes": "1000"})
    packs = [packer.put(logs.topic, bytes(100)) for _ in range(50)]
    for pack in packs:
        await pack.settled()
    assert logs.end_offset == 50
    assert len(logs.batches) > 1
    assert all(len(batch) <= 1_000 for batch in logs.batches)


async def test_a_payload_that_just_fits_is_taken_and_a_byte_more_is_refused_alone(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs", configs={"max.message.bytes": "1000"})
    packs = [packer.put(logs.topic, bytes(size)) for size in (10, 930, 931, 5_000, 10)]
    await packs[0].settled()
    await packs[1].settled()
    for pack in packs[2:4]:
        with pytest.raises(BatchTooLarge):
            await pack.settled()
    await packs[4].settled()
    assert [len(value or b"") for value in values(logs)] == [10, 930, 10]


async def test_a_pack_has_a_bounded_number_of_records(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs")
    packs = [packer.put(logs.topic, b"") for _ in range(RECORDS_PER_PACK_MAX + 1)]
    await packs[-1].settled()
    assert [h.record_count for h in headers(logs)] == [RECORDS_PER_PACK_MAX, 1]


async def test_a_refused_append_uses_no_sequence_and_harms_nobody_else(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs")
    logs.failures = [NotEnoughReplicas("1 of 2")]
    with pytest.raises(NotEnoughReplicas):
        await packer.put(logs.topic, b"lost").settled()
    await packer.put(logs.topic, b"kept").settled()
    controller.is_leader = False
    with pytest.raises(NotLeader):
        await packer.put(logs.topic, b"elsewhere").settled()
    controller.is_leader = True
    await packer.put(logs.topic, b"kept too").settled()
    assert values(logs) == [b"kept", b"kept too"]
    assert [h.base_sequence for h in headers(logs)] == [0, 1]


async def test_a_fault_of_ours_ends_the_pack_and_not_the_packer(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs")
    logs.failures = [ZeroDivisionError()]
    with pytest.raises(StorageFailed, match="ZeroDivisionError"):
        await packer.put(logs.topic, b"lost").settled()
    await packer.put(logs.topic, b"kept").settled()


async def test_an_unknown_outcome_is_told_as_such(
    controller: FakeController, packer: Packer
) -> None:
    logs = controller.add("logs")
    logs.is_lost = True
    with pytest.raises(OutcomeUnknown):
        await packer.put(logs.topic, b"perhaps").settled()


@pytest.mark.parametrize("error", [OutcomeUnknown("no answer"), StorageFailed("the disk")])
async def test_a_put_that_passes_for_the_repetition_of_one_whose_fate_is_unknown(
    controller: FakeController, packer: Packer, error: Exception
) -> None:
    """The same sequence twice: the leader would answer OK and store nothing."""
    logs, other = controller.add("logs"), controller.add("other")
    await packer.put(other.topic, b"a").settled()
    logs.failures = [error]
    with pytest.raises(type(error)):
        await packer.put(logs.topic, b"perhaps stored").settled()
    await packer.put(logs.topic, b"next").settled()
    await packer.put(other.topic, b"b").settled()
    assert [(h.producer_id, h.base_sequence) for h in headers(logs)] == [(4_001, 0)]
    assert [(h.producer_id, h.base_sequence) for h in headers(other)] == [(4_000, 0), (4_000, 1)]


async def test_a_gap_left_by_a_seal_is_healed_by_a_new_producer_id(
    controller: FakeController, packer: Packer
) -> None:
    """The seal gave up a pack that was appended: the next sequence would be refused for ever."""
    logs = controller.add("logs")
    await packer.put(logs.topic, b"a").settled()
    logs.forget_appends_of(4_000)
    await packer.put(logs.topic, b"b").settled()
    await packer.put(logs.topic, b"c").settled()
    assert values(logs) == [b"a", b"b", b"c"]
    assert [(h.producer_id, h.base_sequence) for h in headers(logs)] == [
        (4_000, 0),
        (4_001, 0),
        (4_001, 1),
    ]


async def test_clients_that_were_answered_together_share_the_next_batch_too(
    controller: FakeController, packer: Packer
) -> None:
    """They come back one by one, in turns of the loop of their own."""
    logs = await _answered_together(controller, packer)
    again = []
    for _ in range(3):
        again.append(packer.put(logs.topic, b"y", is_alone=True))
        await anyio.lowlevel.checkpoint()
    await again[-1].settled()
    assert [header.record_count for header in headers(logs)] == [1, 3, 3]


async def test_a_client_whose_companions_are_gone_is_served_alone(
    controller: FakeController, packer: Packer
) -> None:
    logs = await _answered_together(controller, packer)
    for _ in range(2):
        await packer.put(logs.topic, b"y", is_alone=True).settled()
    assert [header.record_count for header in headers(logs)] == [1, 3, 1, 1]


async def test_what_is_worth_a_batch_of_its_own_waits_for_no_companions(
    controller: FakeController, packer: Packer
) -> None:
    logs = await _answered_together(controller, packer)
    large = packer.put(logs.topic, bytes(SIZE_MAX), is_alone=True)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert large.done.is_set()
    assert [header.record_count for header in headers(logs)] == [1, 3, 1]


async def _answered_together(controller: FakeController, packer: Packer) -> FakePartition:
    """A topic of which three clients have just been answered, by a second batch."""
    logs = controller.add("logs")
    await packer.put(logs.topic, b"the task's").settled()
    packs = [packer.put(logs.topic, b"x") for _ in range(3)]
    for pack in packs:
        pack.puts.append(Pending())  # As the session does, for which no task waits.
    await packs[0].settled()
    return logs
