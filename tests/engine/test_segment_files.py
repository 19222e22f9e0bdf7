"""How a segment copy ends: by a promise, by a seal, and what a header object is until then."""

from typing import Any

import pytest

from engine.backends._memory import MemoryBackend
from engine.errors import (
    CorruptSegmentError,
    PromiseRefused,
    SegmentClosedError,
)
from engine.format import SegmentEnd
from tests.engine.support import DIRECTORY, LOG, Rig, filled, make_batch


def test_head_is_the_state_before_the_first_batch(rig: Rig, backend: MemoryBackend) -> None:
    state = ["before"]
    segment = rig.open(head=lambda: state[0].encode())
    rig.append(segment)
    state[0] = "after"
    rig.settle(segment)
    assert segment.head() == b"before"
    assert Rig(backend.crash_clone("none")).recover().head() == b"before"


def test_head_that_comes_after_the_promise_is_kept(rig: Rig, backend: MemoryBackend) -> None:
    """A copy that knew nothing when it was asked to seal is repaired, head included."""
    state = [b""]
    segment = rig.open(head=lambda: state[0])
    rig.promise(segment, 8)
    state[0] = b"from the recoverer"
    header, batch = make_batch(0)
    segment.repair([(header, [batch])])
    rig.settle(segment)
    assert Rig(backend.crash_clone("none")).recover().head() == b"from the recoverer"


def test_head_that_is_damaged_is_refused(rig: Rig, backend: MemoryBackend) -> None:
    filled(rig)
    backend.fs.contents(DIRECTORY / "1" / "head")[-1] ^= 1
    segment = Rig(backend.kill_clone()).recover()
    with pytest.raises(CorruptSegmentError, match="head"):
        segment.head()


def test_promise_answers_the_durable_end_and_ends_appending(rig: Rig) -> None:
    segment, _ = filled(rig)
    rig.append(segment)
    end = rig.promise(segment, 8)
    assert end == segment.end == SegmentEnd(11, segment.size, segment.digest, 1000)
    assert segment.durable_offset == 11
    with pytest.raises(SegmentClosedError, match="promised to epoch 8"):
        rig.append(segment)


def test_promise_refuses_a_lower_epoch_and_repeats_a_higher_answer(rig: Rig) -> None:
    segment, _ = filled(rig)
    end = rig.promise(segment, 9)
    refused = rig.promise(segment, 8)
    assert isinstance(refused, PromiseRefused)
    assert refused.promised_epoch == 9
    assert rig.promise(segment, 9) == end
    assert rig.promise(segment, 10) == end
    assert segment.promised_epoch == 10


def test_promise_that_was_answered_survives_the_power(rig: Rig, backend: MemoryBackend) -> None:
    segment, _ = filled(rig)
    end = rig.promise(segment, 9)
    for mode in ("none", "all"):
        again = Rig(backend.crash_clone(mode))
        segment = again.recover()
        assert (segment.promised_epoch, segment.end) == (9, end)
        assert isinstance(again.promise(segment, 8), PromiseRefused)
        with pytest.raises(SegmentClosedError):
            again.append(segment)


def test_promise_syncs_what_the_policy_did_not(backend: MemoryBackend) -> None:
    rig = Rig(backend, policy="none")
    segment, _ = filled(rig)
    assert Rig(backend.crash_clone("none")).recover().end_offset == 0
    end = rig.promise(segment, 8)
    assert Rig(backend.crash_clone("none")).recover().end == end


def test_promise_of_a_segment_without_files(rig: Rig, backend: MemoryBackend) -> None:
    segment = rig.open()
    assert rig.promise(segment, 8) == SegmentEnd(0, 0, 0, -1)
    assert Rig(backend.crash_clone("none")).recover().promised_epoch == 8
    lost = Rig(MemoryBackend())
    assert lost.promise(lost.recover(), 8) == SegmentEnd(0, 0, 0, -1)


def test_two_promises_at_once_are_both_answered_in_order(rig: Rig) -> None:
    segment, _ = filled(rig)
    answers: list[Any] = []
    segment.promise(8, answers.append)
    segment.promise(9, answers.append)
    segment.promise(8, answers.append)
    rig.until(lambda: len(answers) == 3)
    assert isinstance(answers[0], PromiseRefused)
    assert answers[1:] == [segment.end, segment.end]
    assert rig.recover_of_clone().promised_epoch == 9


def test_sealed_segment_is_final_and_needs_no_scan(rig: Rig, backend: MemoryBackend) -> None:
    segment, batches = filled(rig, count=500)
    assert rig.seal(segment) is None
    assert segment.sealed
    with pytest.raises(SegmentClosedError, match="sealed"):
        rig.append(segment)
    names = set(backend.fs.listdir(DIRECTORY / "1"))
    stem = f"{0:020}"
    assert names == {f"{stem}.log", f"{stem}.index", f"{stem}.timeindex", "meta", "head"}
    again = Rig(backend.crash_clone("none"))
    assert again.log.is_sealed_on_disk(1)
    adopted = again.log.adopt(1, 0, segment.end)
    assert again.read(adopted, 321, size_max=1) == batches[321]
    assert again.promise(adopted, 8) == segment.end


def test_seal_cuts_what_the_cluster_did_not_agree_on(rig: Rig, backend: MemoryBackend) -> None:
    segment, batches = filled(rig, count=300)
    agreed = segment.end
    for _ in range(300):
        rig.append(segment, timestamp=9000)
    rig.promise(segment, 8)
    assert rig.seal(segment, agreed) is None
    assert segment.end == agreed
    assert backend.fs.contents(LOG) == b"".join(batches)
    assert segment.offset_before_timestamp(9000) <= 300
    assert rig.read(segment, 299) == batches[-1]
    assert Rig(backend.crash_clone("none")).log.adopt(1, 0, agreed).end_offset == 300


def test_seal_of_another_history_is_refused(rig: Rig) -> None:
    segment, _ = filled(rig)
    for wrong in (
        segment.end._replace(digest=1),
        segment.end._replace(end_offset=9),
        segment.end._replace(size=segment.size + 1),
        SegmentEnd(5, segment.size // 2, 77, 1000),
    ):
        rig2 = Rig(rig.backend.kill_clone())  # type: ignore[attr-defined]
        result = rig2.seal(rig2.recover(), wrong)
        assert isinstance(result, CorruptSegmentError), wrong


def test_seal_twice_is_seal_once(rig: Rig) -> None:
    segment, _ = filled(rig)
    assert rig.seal(segment) is None
    assert rig.seal(segment) is None
    assert isinstance(rig.seal(segment, segment.end._replace(digest=5)), CorruptSegmentError)


def test_seal_of_an_empty_segment(rig: Rig) -> None:
    segment = rig.open()
    assert rig.seal(segment) is None
    assert rig.log.is_sealed_on_disk(1)
    assert rig.read(segment, 0, end=0) == b""


def test_sealed_segment_that_lost_its_end_is_refused(rig: Rig, backend: MemoryBackend) -> None:
    """Also when what is left is a valid prefix above the ack mark."""
    segment, _ = filled(rig)
    rig.seal(segment)
    before = bytes(backend.fs.contents(LOG))
    backend.fs.contents(LOG)[-1] ^= 1
    damaged = bytes(backend.fs.contents(LOG))
    again = backend.kill_clone()
    with pytest.raises(CorruptSegmentError):
        Rig(again).recover()
    assert bytes(again.fs.contents(LOG)) == damaged, "refusing changes nothing"
    assert len(damaged) == len(before)
