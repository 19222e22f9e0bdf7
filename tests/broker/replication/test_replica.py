"""A copy's promises: once it has answered a seal, nothing of the old writer gets in."""

from broker.replication.replica import Definite, Refused, Replica, ReplicaPhase, Unknown
from engine.format import SegmentEnd

END = SegmentEnd(10, 1000, 77, 5)


def test_a_copy_takes_only_the_next_batch_of_its_writers_epoch() -> None:
    copy = Replica(epoch=3, end_offset=10)
    assert copy.accepts(epoch=3, base_offset=10)
    assert not copy.accepts(epoch=3, base_offset=11), "a gap"
    assert not copy.accepts(epoch=3, base_offset=9), "a repeat"
    assert not copy.accepts(epoch=2, base_offset=10), "another writer"
    copy.appended(12)
    assert copy.accepts(epoch=3, base_offset=12)


def test_after_a_promise_the_old_writer_is_shut_out_even_before_the_answer() -> None:
    copy = Replica(epoch=3, end_offset=10)
    assert copy.ask_promise(4) is None
    assert not copy.accepts(epoch=3, base_offset=10)
    assert copy.promised(END) == Definite(END)


def test_a_lower_seal_epoch_is_refused_and_a_higher_one_answered_again() -> None:
    copy = Replica(epoch=3, end_offset=10)
    copy.ask_promise(6)
    assert copy.ask_promise(5) == Refused(6)
    assert copy.ask_promise(6) is None
    assert copy.ask_promise(7) is None
    assert copy.promised_epoch == 7


def test_a_promise_from_before_the_restart_still_holds() -> None:
    copy = Replica(epoch=3, end_offset=10, promised_epoch=4)
    assert copy.phase is ReplicaPhase.PROMISED
    assert not copy.accepts(epoch=3, base_offset=10)


def test_a_copy_that_may_have_lost_data_says_so() -> None:
    copy = Replica(epoch=3, end_offset=0, unknown="the disk is new")
    copy.ask_promise(4)
    assert copy.promised(END) == Unknown("the disk is new", END)


def test_a_sealed_copy_takes_nothing() -> None:
    copy = Replica(epoch=3, end_offset=10)
    copy.sealed(10)
    assert copy.phase is ReplicaPhase.SEALED
    assert not copy.accepts(epoch=3, base_offset=10)
    assert Replica(epoch=3, end_offset=10, is_sealed=True).phase is ReplicaPhase.SEALED
