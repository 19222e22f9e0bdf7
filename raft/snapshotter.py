"""The snapshot file of one node: taking it, sending it, and putting another one in its place.

Encoding and disk work happen elsewhere (`spawn`: a thread), one at a time; the tick thread only
hands over an immutable state and later learns that a file is durable. So no tick waits for a
snapshot, and no two write the same file."""

import logging
from collections.abc import Callable

from raft import snapshot
from raft.disk import Disk
from raft.errors import REMEDY, CorruptJournalError, CorruptSnapshotError
from raft.journal import JOURNAL_NAME, Journal
from raft.messages import Chunk, ChunkReply
from raft.snapshot import SNAPSHOT_NAME, Snapshot
from raft.transfer import Incoming, Outgoing

Spawn = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs a function elsewhere, and answers how to wait for its end."""
Post = Callable[[Callable[[], None]], None]
"""Has a function run on the tick thread. Thread safe."""

_log = logging.getLogger(__name__)


class Snapshotter:
    """Belongs to the tick thread, but for the functions it hands to `spawn`."""

    def __init__(self, disk: Disk, spawn: Spawn, post: Post) -> None:
        self._disk = disk
        self._spawn = spawn
        self._post = post
        self._join: Callable[[], None] = lambda: None
        self._outgoing: dict[str, Outgoing] = {}
        self._incoming = Incoming()
        self._data = b""
        self._data_index = 0
        self.is_busy = False
        self.index = 0
        """Entry of the snapshot on disk; 0 when there is none."""

    def load(self) -> Snapshot | None:
        """The snapshot on disk. Raises CorruptSnapshotError, OSError."""
        taken = snapshot.load(self._disk)
        self.index = 0 if taken is None else taken.index
        return taken

    def join(self) -> None:
        """Wait for work that is under way."""
        self._join()

    # ---- our own ---------------------------------------------------------------------------------

    def take(self, taken: Snapshot, on_taken: Callable[[], None]) -> None:
        """Write `taken`; `on_taken` runs on the tick thread when it is durable."""
        assert not self.is_busy, "one at a time"

        def done() -> None:
            self.index = taken.index
            on_taken()

        self._work(lambda: snapshot.write(self._disk, taken), done)

    def _work(self, work: Callable[[], object], done: Callable[[], None]) -> None:
        """`work` elsewhere, then `done` here. A disk that fails, fails the tick."""

        def finish() -> None:
            self.is_busy = False
            done()

        def run() -> None:
            try:
                work()
            except OSError as failure:
                self._post(_raiser(failure))
            else:
                self._post(finish)

        self.is_busy = True
        self._join = self._spawn(run)

    # ---- to others -------------------------------------------------------------------------------

    def next_chunk(self, voter: str, term: int, now: float) -> Chunk | None:
        """The piece that `voter` needs next; None while the last one is under way."""
        outgoing = self._outgoing.get(voter)
        if outgoing is None:
            if not self._outgoing or self._data_index != self.index:
                # A newer one may be in its place already, and we not know of it yet.
                self._data = self._disk.read(SNAPSHOT_NAME) or b""
                self._data_index = snapshot.index_of(self._data, SNAPSHOT_NAME)
            outgoing = self._outgoing[voter] = Outgoing(self._data_index, self._data)
        return outgoing.next_chunk(term, now)

    def acknowledged(self, voter: str, reply: ChunkReply) -> None:
        """What `voter` has. When it has it all, or is served by the log again, the bytes are let
        go."""
        outgoing = self._outgoing.get(voter)
        if outgoing is not None:
            outgoing.acknowledged(reply)
        if reply.installed:
            self.forget(voter)

    def forget(self, voter: str) -> None:
        """`voter` needs no snapshot any more, or begins again."""
        self._outgoing.pop(voter, None)
        if not self._outgoing:
            self._data, self._data_index = b"", 0

    # ---- from the leader -------------------------------------------------------------------------

    def received(
        self, voter: str, chunk: Chunk, applied_index: int, on_installed: Callable[[Snapshot], None]
    ) -> ChunkReply:
        """Take a piece in. `on_installed` runs on the tick thread once the whole is durable here.

        A snapshot no newer than what we applied, or than the one we have, is answered as installed.
        """
        if chunk.index <= max(applied_index, self.index):
            self._incoming.clear()
            return ChunkReply(chunk.term, chunk.index, chunk.size, installed=True)
        data = self._incoming.add(voter, chunk)
        if data is not None and not self.is_busy:
            self._install(data, chunk.index, on_installed)
        return ChunkReply(chunk.term, chunk.index, self._incoming.position, installed=False)

    def _install(self, data: bytes, index: int, on_installed: Callable[[Snapshot], None]) -> None:
        """Decode it, which proves it whole, before it replaces what we have."""
        decoded: list[Snapshot] = []

        def work() -> None:
            try:
                decoded.append(snapshot.decode(data, "a snapshot from the leader"))
            except CorruptSnapshotError as wrong:
                _log.error("%s", wrong)
                return
            snapshot.store(self._disk, iter((data,)))

        def done() -> None:
            self._incoming.clear()
            if decoded:
                assert decoded[0].index == index, "the leader announced another entry"
                self.index = index
                on_installed(decoded[0])

        self._work(work, done)


def open_journal(disk: Disk, taken: Snapshot | None) -> Journal:
    """The journal, made to fit the snapshot. A crash between the two leaves them apart, never in
    contradiction.

    Raises CorruptJournalError, CorruptSnapshotError.
    """
    if taken is not None and disk.read(JOURNAL_NAME) is None:
        raise CorruptJournalError(
            f"{disk.describe(JOURNAL_NAME)} is missing beside a snapshot, and with it the vote of"
            f" this node. {REMEDY}"
        )
    journal = Journal(disk)
    index, term = (1, 0) if taken is None else (taken.index, taken.term)
    if journal.first_index > index:
        raise CorruptSnapshotError(
            f"{disk.describe(SNAPSHOT_NAME)} ends at entry {index}, but the journal begins"
            f" after entry {journal.first_index}: what lies between is gone. {REMEDY}"
        )
    if journal.term_at(index) != term and index <= journal.getRaftCommitIndex():
        raise CorruptSnapshotError(
            f"{disk.describe(SNAPSHOT_NAME)} says that entry {index} is of term {term},"
            f" and the journal has committed another one. {REMEDY}"
        )
    if journal.term_at(index) != term:
        # A snapshot from the leader, and a crash before the journal could follow: what the journal
        # says was overruled.
        journal.reset(index, term)
    elif journal.getRaftCommitIndex() < index:
        journal.setRaftCommitIndex(index)
    return journal


def _raiser(failure: OSError) -> Callable[[], None]:
    def fail() -> None:
        raise failure

    return fail
