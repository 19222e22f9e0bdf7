"""InitProducerId: two producers with one id would silence each other."""

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from broker.errors import Loading, NotLeader, OutcomeUnknown, RequestError
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import INIT_PRODUCER_ID


async def init(node: Node, version: int = 5, **values: Any) -> tuple[int, int, int]:
    answer = await node.connect().ask(INIT_PRODUCER_ID, version, **values)
    return answer["error"], answer["producer_id"], answer["epoch"]


@pytest.mark.parametrize("version", range(6))
async def test_every_call_gives_an_id_nobody_had(node: Node, version: int) -> None:
    first, second = await init(node, version), await init(node, version)
    assert first == (0, 4000, 0)
    assert second == (0, 4001, 0)


async def test_a_producer_that_lost_its_sequence_keeps_its_id_with_the_next_epoch(
    node: Node,
) -> None:
    """KIP-360."""
    assert await init(node, producer_id=77, epoch=4) == (0, 77, 5)
    assert await init(node, 3, producer_id=77, epoch=32765) == (0, 77, 32766)


@pytest.mark.parametrize("epoch", [32766, 32767])
async def test_when_epochs_run_out_there_is_a_new_id(node: Node, epoch: int) -> None:
    assert await init(node, producer_id=77, epoch=epoch) == (0, 4000, 0)


@pytest.mark.parametrize(("producer_id", "epoch"), [(77, -1), (-1, 4), (-5, 4), (77, -2)])
async def test_half_an_identity_is_a_contradiction(
    node: Node, producer_id: int, epoch: int
) -> None:
    assert await init(node, producer_id=producer_id, epoch=epoch) == (42, -1, -1)


@pytest.mark.parametrize("version", [0, 2, 5])
@pytest.mark.parametrize("transactional_id", ["tx", ""])
async def test_transactions_are_refused_for_good(
    node: Node, version: int, transactional_id: str
) -> None:
    """A retriable number would make every client try until its timeout."""
    told = await init(node, version, transactional_id=transactional_id)
    assert told == (53, -1, -1)
    assert not ErrorCode(told[0]).retriable


@pytest.mark.parametrize("error", [NotLeader("moved"), OutcomeUnknown("slow"), Loading("soon")])
async def test_an_id_that_cannot_be_had_now_is_asked_for_again(
    node: Node, error: RequestError
) -> None:
    node.controller.producer_id_error = error
    told = await init(node)
    assert told == (14, -1, -1)
    assert ErrorCode(told[0]).retriable
