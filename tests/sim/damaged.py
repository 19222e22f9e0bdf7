"""Mistakes with what a disk gives back wrongly, or not at all: believed, guessed, or made up. Only
the decay of small files and the loss of several disks show them."""

from typing import Any
from unittest.mock import patch

from broker.controller.restart import Restart
from broker.replication import recoverer
from broker.replication.seal import Recovery, SealEffect
from engine.errors import CorruptSegmentError
from engine.format import FormatError, SegmentEnd, new_meta
from engine.segment_files import MetaFile, SegmentFiles
from raft import frames, snapshot
from tests.sim.deletions import MUTANTS
from tests.sim.mutants import Patches, mutant

__all__ = ["MUTANTS"]

# ---- Raft's files --------------------------------------------------------------------------------


@mutant
def a_damaged_journal_ends_there() -> Patches:
    """What is behind a bad frame is taken for a torn write, wherever it is."""
    yield frames, "good_frame_behind", lambda *_: None


@mutant
def a_damaged_snapshot_is_believed() -> Patches:
    """No checksums."""

    def chunks(data: bytes, source: str) -> Any:
        at = snapshot._HEADER.size
        while at < len(data):
            size, _ = snapshot._CHUNK.unpack_from(data, at)
            payload = memoryview(data)[at + snapshot._CHUNK.size :][:size]
            yield at, *snapshot._decode_chunk(payload)
            at += snapshot._CHUNK.size + size

    yield snapshot, "_chunks", chunks


# ---- a copy's meta and head ----------------------------------------------------------------------


@mutant
def a_damaged_meta_is_made_up() -> Patches:
    """A copy whose `meta` is gone has promised nothing, and vouches."""
    meta, read = SegmentFiles.meta, MetaFile.read

    def made_up(self: SegmentFiles) -> Any:
        try:
            return meta(self)
        except CorruptSegmentError:
            self._meta._current = new_meta(self._base_offset, self._epoch or 0), 0
            return self._meta._current[0]

    def lenient(self: MetaFile) -> Any:
        try:
            return read(self)
        except CorruptSegmentError:
            self._current = new_meta(0, 0), 0
            return self._current[0]

    yield SegmentFiles, "meta", made_up
    yield MetaFile, "read", lenient


@mutant
def a_damaged_head_is_none() -> Patches:
    """A copy whose `head` cannot be read counts from nothing."""
    head = SegmentFiles.head

    def lenient(self: SegmentFiles) -> bytes | None:
        try:
            return head(self)
        except (CorruptSegmentError, FormatError):
            return None

    yield SegmentFiles, "head", lenient


@mutant
def a_damaged_copy_is_nobodys() -> Patches:
    """A node does not ask whether others hold what it finds damaged."""
    yield Restart, "_is_elsewhere", lambda *_: False


# ---- a loss that was accepted --------------------------------------------------------------------


@mutant
def what_is_left_is_the_shortest() -> Patches:
    """Once an operator has accepted a loss, a copy that has just been begun anew says where the
    segment ends."""
    ends_of, choose = Recovery._ends, Recovery._choose

    def shortest(self: Recovery) -> dict[int, SegmentEnd]:
        ends = ends_of(self)
        least = min((end.end_offset for end in ends.values()), default=0)
        return {node: end for node, end in ends.items() if end.end_offset == least}

    def choose_shortest(self: Recovery) -> list[SealEffect]:
        if not self._accepts_loss:
            return choose(self)
        with patch.object(Recovery, "_ends", shortest):
            return choose(self)

    yield Recovery, "_choose", choose_shortest


@mutant
def a_slow_copy_is_given_up() -> Patches:
    """Once an operator has accepted a loss, the first answer is what is left."""
    accept_loss = Recovery.accept_loss

    def at_once(self: Recovery, _: frozenset[int] = frozenset()) -> list[SealEffect]:
        return accept_loss(self)

    yield Recovery, "accept_loss", at_once
    yield recoverer, "LOSS_PATIENCE_S", 0.0
