"""The next-state relation of `spec/Replication.tla`, for the steps that the running code takes.

Each method is an action of the specification under its name: first its guard, then what it does to
the variables. A step of the code for which there is none is a violation, whatever came of it.

The numbers differ in two ways. Positions are offsets, not indexes in a segment. And `log`,
`durable` and `promise` belong to disks, not to nodes, so that losing one needs no step.
"""

from collections.abc import Callable
from dataclasses import dataclass

from broker.replication.quorum import ack_quorum, committed_offset, seal_quorum
from engine.batch import BatchHeader
from raft.state import Segment

Key = tuple[bytes, int]
"""Topic id and segment id."""

FINAL = 1 << 62
"""The promise of a copy that is closed: above every epoch."""


class NotAllowed(Exception):
    """The specification has no such step; the text says why."""


@dataclass(slots=True)
class Writing:
    """`writer`, of one process and one topic. `high_watermark` is `Model.acked`."""

    sid: int
    is_proposed: bool = False


class Model:
    """The variables that nothing outside the code keeps; `durable` is on the disks."""

    def __init__(self, durable_end: Callable[[int, Key], int]) -> None:
        """`durable_end(node, key)`: what a power cut would leave of a copy."""
        self._durable_end = durable_end
        self.segments: dict[Key, Segment] = {}
        """`meta`: as opened or sealed last, deleted ones too."""
        self.ends: dict[Key, int] = {}
        """Of segments that have ended; a replaced one ended at its base."""
        self.void: dict[tuple[bytes, Key], int] = {}
        """(disk, segment) → the topic's epoch when this disk took the place of another."""
        self.log: dict[tuple[bytes, Key], int] = {}
        """Where the copy on a disk ends, as written."""
        self.promise: dict[tuple[bytes, Key], int] = {}
        self.frames: dict[Key, dict[int, tuple[int, int]]] = {}
        """What the writer has sent: base offset → (next offset, CRC)."""
        self.told: dict[Key, dict[int, int]] = {}
        self.answers: dict[tuple[Key, int], dict[int, int]] = {}
        """(segment, seal epoch) → node → the end that it vouched for."""
        self.attempt: dict[tuple[Key, int], int | None] = {}
        """(segment, seal epoch) → the end that its recoverer has chosen, if it has."""
        self.recoverer: dict[tuple[Key, int], int] = {}
        self.rolls: dict[Key, set[int]] = {}
        """The ends at which a roll may still close the segment."""
        self.writer: dict[tuple[object, bytes], Writing] = {}
        """(process, topic id) → the segment that it may write."""
        self.acked: dict[Key, int] = {}
        """Everything below was called committed by somebody."""

    def log_end(self, disk: bytes, key: Key) -> int:
        return self.log.get((disk, key), self.segments[key].base_offset)

    # ---- the append path -------------------------------------------------------------------------

    def become_writer(self, process: object, me: tuple[int, int], key: Key) -> None:
        """`me` is the process's node and incarnation."""
        segment, before = self.segments[key], self.writer.get((process, key[0]))
        named = (segment.writer, segment.writer_incarnation)
        _require(me == named, f"BecomeWriter: {me} is not {named}")
        _require(before is None or before.sid < key[1], "BecomeWriter: of an earlier segment")
        self.writer[process, key[0]] = Writing(key[1])

    def append(self, process: object, disk: bytes, key: Key, placed: BatchHeader) -> None:
        writing = self.writer.get((process, key[0]))
        if writing is None or writing.sid != key[1]:
            raise NotAllowed("Append1: this process is not the writer")
        if writing.is_proposed:
            self._roll_refused(writing, key)
        _require(not self.promise.get((disk, key)), "Append1: its own copy has promised")
        self._at_the_end("Append1", disk, key, placed)
        frames = self.frames.setdefault(key, {})
        _require(placed.base_offset not in frames, "Append1: this offset was given out before")
        frames[placed.base_offset] = (placed.next_offset, placed.crc)
        self.log[disk, key] = placed.next_offset

    def receive(self, disk: bytes, key: Key, placed: BatchHeader) -> None:
        self._sent("Receive", key, placed)
        promised = self.promise.get((disk, key))
        _require(not promised, f"Receive: the copy has promised to {promised}")
        _require(self._follows(disk, key), "Receive: the disk may have forgotten a promise")
        self._at_the_end("Receive", disk, key, placed)
        self.log[disk, key] = placed.next_offset

    def sync(self, node: int, disk: bytes, key: Key, end: int) -> None:
        """A copy is durable up to `end`, as its node says."""
        durable = self._durable_end(node, key)
        _require(end <= durable, f"Sync: {end} was told, {durable} is durable")
        _require(self._follows(disk, key), "Sync: the disk may have forgotten a promise")

    def hear(self, node: int, key: Key, end: int) -> None:
        """What was said counts, also when it is heard after the segment has ended or the disk is
        gone."""
        told = self.told.setdefault(key, {})
        told[node] = max(end, told.get(node, 0))

    def advance_high_watermark(self, key: Key, mark: int, written: int) -> None:
        segment, told_by = self.segments[key], self.told.get(key, {})
        ends = [told_by.get(node, segment.base_offset) for node in segment.replicas]
        told = committed_offset(ends, ack_quorum(len(ends)))
        what = f"AdvanceHighWatermark: to {mark}, told {told}, written {written}"
        _require(mark <= min(told, written), what)
        self.acked[key] = max(mark, self.acked.get(key, mark))

    def _follows(self, disk: bytes, key: Key) -> bool:
        return self.void.get((disk, key), 0) in (0, self.segments[key].epoch)

    def _sent(self, action: str, key: Key, placed: BatchHeader) -> None:
        record = self.frames.get(key, {}).get(placed.base_offset)
        what = f"{action}: the writer never sent this at {placed.base_offset}"
        _require(record == (placed.next_offset, placed.crc), what)

    def _at_the_end(self, action: str, disk: bytes, key: Key, placed: BatchHeader) -> None:
        end = self.log_end(disk, key)
        _require(placed.base_offset == end, f"{action}: {placed.base_offset} at the end {end}")

    # ---- a planned roll --------------------------------------------------------------------------

    def propose_roll(self, process: object, disk: bytes, key: Key, end: int) -> None:
        """Also again, while its outcome is unknown: for the same end."""
        writing = self.writer.get((process, key[0]))
        if writing is None or writing.sid != key[1]:
            raise NotAllowed("ProposeRoll: this process is not the writer")
        written = self.log_end(disk, key)
        acked = self.acked.get(key, self.segments[key].base_offset)
        what = f"ProposeRoll: {end}, written to {written}, committed to {acked}"
        _require(written == end == acked, what)
        writing.is_proposed = True
        self.rolls.setdefault(key, set()).add(end)

    def _roll_refused(self, writing: Writing, key: Key) -> None:
        """The writer goes on: no proposal of its ever closes the segment."""
        by_roll = key in self.ends and not self.segments[key].seal_epoch
        _require(not by_roll, "RollRefused: the roll has closed the segment")
        writing.is_proposed = False
        self.rolls.pop(key, None)

    def apply_roll(self, key: Key, end: int) -> None:
        rolls = self.rolls.get(key, set())
        _require(end in rolls, f"ApplyRoll: {end}, may still be {sorted(rolls)}")

    # ---- a seal ----------------------------------------------------------------------------------

    def begin_seal(self, key: Key, epoch: int, recoverer: int) -> None:
        """An epoch is one attempt, of one recoverer."""
        first = self.recoverer.setdefault((key, epoch), recoverer)
        _require(first == recoverer, f"BeginSeal: {epoch} by {recoverer}, it was that of {first}")
        self.attempt.setdefault((key, epoch))

    def ask_promise(self, node: int, disk: bytes, key: Key, epoch: int, end: int | None) -> None:
        """`Promise`; `end` is None for an UNKNOWN answer. Who is asked again says the same."""
        if key in self.ends:
            return  # A closed copy promises nothing any more, and grows no more either.
        _require((key, epoch) in self.attempt, f"Promise: nobody has begun {epoch}")
        promised = self.promise.get((disk, key), 0)
        _require(promised <= epoch, f"Promise: to {epoch} after {promised}")
        self.promise[disk, key] = epoch
        if end is None:
            return
        written = self.log_end(disk, key)
        _require(end == written, f"Promise: it ends at {written}, and says {end}")
        if node in self.segments[key].replicas:
            _require((disk, key) not in self.void, "Promise: a replaced disk vouches")
            if promised < epoch:
                self.answers.setdefault((key, epoch), {})[node] = end

    def choose_end(self, key: Key, epoch: int, end: int) -> None:
        """The longest of enough answers to this very attempt; once."""
        chosen = self.attempt.get((key, epoch))
        if chosen is not None:
            _require(chosen == end, f"ChooseEnd: {end} after {chosen}")
            return
        answers = self.answers.get((key, epoch), {})
        count = sum(answer <= end for answer in answers.values())
        enough = count >= seal_quorum(len(self.segments[key].replicas))
        _require(end in answers.values() and enough, f"ChooseEnd: {end} of {answers}")
        self.attempt[key, epoch] = end

    def accept_end(self, key: Key, epoch: int, end: int) -> None:
        """As `choose_end`, after an operator has accepted a loss (no action of the specification):
        what anybody vouched for is there, and nobody has seen the rest."""
        chosen = self.attempt.get((key, epoch))
        if chosen is not None:
            _require(chosen == end, f"AcceptLoss: {end} after {chosen}")
            return
        answers = self.answers.get((key, epoch), {})
        _require(end >= max(answers.values(), default=0), f"AcceptLoss: {end} of {answers}")
        self.attempt[key, epoch] = end

    def repair(self, disk: bytes, key: Key, placed: BatchHeader) -> None:
        """`Repair`, to the end of the attempt that the copy is promised to, or `FetchSealed`, to
        the one that is fixed."""
        self._sent("Repair", key, placed)
        self._at_the_end("Repair", disk, key, placed)
        promised = self.promise.get((disk, key), 0)
        chosen = self.attempt.get((key, promised))
        limit = max(self.ends.get(key, -1), -1 if chosen is None else chosen)
        what = f"Repair: to {placed.next_offset}, promised to {promised}, which ends at {limit}"
        _require(placed.next_offset <= limit, what)
        self.log[disk, key] = placed.next_offset

    def commit_seal(self, key: Key, epoch: int, end: int, holders: dict[int, bytes]) -> None:
        """`holders` are those whose disks are still there."""
        if self.segments[key].accepts_loss:
            self.accept_end(key, epoch, end)
            self.acked[key] = min(end, self.acked.get(key, end))
        else:
            self.choose_end(key, epoch, end)
        for node, disk in holders.items():
            promised = self.promise.get((disk, key), 0)
            _require(promised >= epoch, f"CommitSeal: node {node} has promised to {promised}")

    # ---- what the end asks of the copies ---------------------------------------------------------

    def close(self, disk: bytes, key: Key, end: int) -> None:
        """Cut at the committed end; a copy of a replaced segment at its base."""
        _require(self.ends.get(key) == end, f"Close: at {end}, it ended at {self.ends.get(key)}")
        written = self.log_end(disk, key)
        _require(written >= end, f"Close: at {end}, the copy ends at {written}")
        self.log[disk, key] = end
        self.promise[disk, key] = FINAL

    def restart(self, node: int, disk: bytes, key: Key, end: int) -> None:
        """What a process finds on its disk is durable before it counts."""
        durable = self._durable_end(node, key)
        _require(end <= durable, f"Restart: {end} was read back, {durable} is durable")
        self.log[disk, key] = end


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise NotAllowed(what)
