"""Corrections about the disk, taken back: what is durable when, and what is believed of it."""

from functools import partial
from unittest.mock import patch

from raft import frames
from raft import journal as journal_module
from raft.messages import AnyMessage
from tests.sim.raft.cluster import SimNode
from tests.sim.raft.disk import SimDisk, SimFile


class SendsBeforeItIsDurable(SimNode):
    """Votes and acknowledgements leave before the journal is synced."""

    def send(self, voter: str, message: AnyMessage) -> bool:
        with patch.object(self._journal, "sync"):
            return super().send(voter, message)


class CommitsBeforeItIsDurable(SimNode):
    """The leader counts its own copy while it is still in memory. With others to tell, it syncs
    before it does so, and the correction is the second lock of that door: look with `--nodes 1`."""

    def open(self) -> None:
        set_commit_index = journal_module.Journal.setRaftCommitIndex

        def unsynced(journal: journal_module.Journal, index: int) -> None:
            with patch.object(journal, "sync"):
                set_commit_index(journal, index)

        with patch.object(journal_module.Journal, "setRaftCommitIndex", unsynced):
            super().open()
        journal = self._journal
        journal.setRaftCommitIndex = partial(unsynced, journal)  # type: ignore[method-assign]


class ForgetsItsVote(SimNode):
    """Term and vote live in memory only."""

    def open(self) -> None:
        def unsaved(journal: journal_module.Journal, term: int, vote: str | None) -> None:
            journal._term, journal._vote = term, vote

        with patch.object(journal_module.Journal, "setCurrentTerm", unsaved):
            super().open()
        journal = self._journal
        journal.setCurrentTerm = partial(unsaved, journal)  # type: ignore[method-assign]
        journal._hard_record = lambda: b""  # type: ignore[method-assign]


class NeverSyncsFiles(SimNode):
    """No fsync anywhere, as published."""

    def tick(self) -> None:
        with patch.object(SimFile, "sync"):
            super().tick()

    def open(self) -> None:
        with patch.object(SimFile, "sync"):
            super().open()


class NeverSyncsDirectories(SimNode):
    """A rename is taken for durable as soon as it is made."""

    def tick(self) -> None:
        with patch.object(SimDisk, "sync_directory"):
            super().tick()

    def open(self) -> None:
        with patch.object(SimDisk, "sync_directory"):
            super().open()


class TrustsThePageCache(SimNode):
    """What a killed process wrote, or renamed, and never synced counts as durable for the next."""

    def open(self) -> None:
        assert self._disk is not None
        if self._disk.read(journal_module.JOURNAL_NAME) is None:
            super().open()
            return
        with patch.object(SimDisk, "sync_directory"), patch.object(SimFile, "sync"):
            super().open()


class KeepsATornTail(SimNode):
    """What follows a torn write is appended behind its remains."""

    def open(self) -> None:
        with patch.object(SimFile, "truncate"):
            super().open()


class TrustsItsJournal(SimNode):
    """No checksums."""

    def open(self) -> None:
        def unchecked(data: bytes, position: int, _generation: int) -> bytes | None:
            if position + 8 > len(data):
                return None
            size = int.from_bytes(data[position : position + 4], "little")
            return data[position + 8 : position + 8 + size] if 0 < size < len(data) else None

        with (
            patch.object(frames, "frame_at", unchecked),
            patch.object(frames, "good_frame_behind", return_value=None),
        ):
            super().open()


class TrimsBeforeTheSnapshot(SimNode):
    """The log is shortened while the snapshot that replaces it is still being written."""

    def take_snapshot(self) -> None:
        index = self._raft.applied_index
        super().take_snapshot()
        self._journal.compact_to(index)
