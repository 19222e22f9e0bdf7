"""What continues a refused batch is known by its producer and sequence, and by nothing else."""

import pytest

from broker.errors import NotLeader, OutOfOrderSequence
from broker.kafka_api.behind import TOPICS_MAX, Behind
from engine.batch import SEQUENCE_MAX
from tests.broker.kafka_api.fakes import batch


def _batch(sequence: int, count: int = 1) -> bytes:
    return batch(*[b"x"] * count, producer_id=7, epoch=0, sequence=sequence)


def test_sequences_go_round() -> None:
    behind = Behind()
    behind.refused("t", _batch(SEQUENCE_MAX - 1, count=2), NotLeader("not yet"))
    assert behind.holds("t", _batch(0))


@pytest.mark.parametrize("other", [_batch(3), _batch(5), _batch(6), batch(b"x"), b"short"])
def test_whatever_does_not_continue_it_shows_that_the_producer_knows(other: bytes) -> None:
    behind = Behind()
    behind.refused("t", _batch(3, count=1), NotLeader("not yet"))
    assert not behind.holds("t", other)
    assert not behind.holds("t", _batch(4))


@pytest.mark.parametrize("nothing", [b"", b"short", batch(b"x"), bytes(100)])
def test_what_has_no_sequence_is_not_kept(nothing: bytes) -> None:
    behind = Behind()
    behind.refused("t", nothing, NotLeader("not yet"))
    assert "t" not in behind.topics


def test_a_batch_that_is_refused_for_good_is_not_waited_for() -> None:
    behind = Behind()
    behind.refused("t", _batch(0), OutOfOrderSequence("a gap"))
    assert not behind.holds("t", _batch(1))


def test_a_client_cannot_have_us_remember_without_end() -> None:
    behind = Behind()
    for number in range(TOPICS_MAX + 1):
        behind.refused(f"t{number}", _batch(0), NotLeader("not yet"))
    assert "t0" not in behind.topics
    assert f"t{TOPICS_MAX}" in behind.topics
