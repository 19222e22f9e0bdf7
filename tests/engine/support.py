"""What the engine's tests share: small batches, a Wal on any backend, and a way to let it work."""

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from engine.backends import Backend, FilePart
from engine.backends._memory import MemoryBackend
from engine.batch import BatchHeader, Buffer, parse_header
from engine.durability import FsyncPolicy
from engine.format import SegmentEnd
from engine.log import TopicLog
from engine.records import Record, build
from engine.segment import Segment
from engine.wal import Wal

TOPIC_ID = bytes(range(16))
EPOCH = 7
DISK = Path("/disk")


def make_batch(
    base_offset: int, *, count: int = 1, size: int = 20, epoch: int = EPOCH, timestamp: int = 1000
) -> tuple[BatchHeader, bytearray]:
    """A batch of `count` records, all bytes of which depend on its offset."""
    value = bytes((base_offset + i) % 251 for i in range(size))
    records = [Record(i, 0, None, value) for i in range(count)]
    batch = build(records, base_timestamp=timestamp, base_offset=base_offset, leader_epoch=epoch)
    return parse_header(batch), batch


def client_batch(*, transactional: bool = False, codec: int = 0) -> bytes:
    """What aiokafka's producer puts on the wire."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=1 if transactional else 0,
        producer_id=1000,
        producer_epoch=2,
        base_sequence=5,
        batch_size=10_000,
    )
    builder.append(0, 1_700_000_000_000, b"key", b"value", [("h", b"1"), ("n", None)])
    builder.append(1, 1_700_000_000_010, None, b"", [])
    builder.append(2, 1_700_000_000_005, b"", None, [])
    return bytes(builder.build())


DIRECTORY = DISK / f"orders-{TOPIC_ID.hex()}"
META = DIRECTORY / "1" / "meta"
LOG = DIRECTORY / "1" / f"{0:020}.log"


class Rig:
    """A Wal and one topic's log, driven by hand."""

    def __init__(
        self,
        backend: Backend,
        directory: Path = DISK,
        *,
        policy: str = "each",
        **options: Any,
    ) -> None:
        self.backend = backend
        self.wake_count = 0
        self.on_wake: Callable[[], object] = lambda: None
        self.wal = Wal(directory, backend, FsyncPolicy.parse(policy), wake=self._wake, **options)
        self.log: TopicLog = self.wal.log("orders", TOPIC_ID)

    def _wake(self) -> None:
        self.wake_count += 1
        self.on_wake()

    def open(
        self, sid: int = 1, base_offset: int = 0, head: Callable[[], bytes] = lambda: b"head"
    ) -> Segment:
        return self.log.open(sid, base_offset, EPOCH, head)

    def recover(
        self, sid: int = 1, base_offset: int = 0, visit: Callable[[BatchHeader], object] = id
    ) -> Segment:
        return self.log.recover(sid, base_offset, EPOCH, visit)

    def append(self, segment: Segment, **kind: int) -> bytes:
        header, batch = make_batch(segment.end_offset, **kind)
        segment.append([(header, [batch])])
        return bytes(batch)

    def until(self, is_done: Callable[[], object]) -> None:
        """Flush and reap until `is_done`; more than a thousand rounds are a hang."""
        for _ in range(1000):
            if is_done():
                return
            self.wal.flush()
            self.backend.wait()
            self.wal.reap()
        raise AssertionError("nothing happens any more")

    def settle(self, segment: Segment) -> None:
        """Until everything appended is durable."""
        self.until(lambda: segment.durable_offset == segment.end_offset)

    def result(self, start: Callable[[Callable[[Any], None]], object]) -> Any:
        """The outcome of an operation that calls back."""
        results: list[Any] = []
        start(results.append)
        self.until(lambda: results)
        assert len(results) == 1
        return results[0]

    def promise(self, segment: Segment, epoch: int) -> Any:
        return self.result(lambda done: segment.promise(epoch, done))

    def seal(self, segment: Segment, end: SegmentEnd | None = None) -> Any:
        return self.result(lambda done: segment.seal(end or segment.end, done))

    def read(
        self, segment: Segment, offset: int, *, size_max: int = 10**6, end: int | None = None
    ) -> Any:
        end_offset = segment.end_offset if end is None else end
        return self.result(
            lambda done: segment.read(
                offset, size_max=size_max, end_offset=end_offset, on_done=done
            )
        )

    def recover_of_clone(self) -> Segment:
        """The segment as a power cut that spares nothing unsynced would leave it."""
        assert isinstance(self.backend, MemoryBackend)
        return Rig(self.backend.crash_clone("none")).recover()


def filled(rig: Rig, count: int = 10, **kind: int) -> tuple[Segment, list[bytes]]:
    """A segment of so many durable batches, and their bytes."""
    segment = rig.open()
    batches = [rig.append(segment, **kind) for _ in range(count)]
    rig.settle(segment)
    return segment, batches


def sent(part: Buffer | FilePart | None) -> bytes:
    """What a socket would receive."""
    assert isinstance(part, FilePart)
    size = len(part)
    theirs, ours = socket.socketpair()
    received = bytearray()
    with closing(theirs), closing(ours):
        ours.setblocking(False)
        while len(received) < size:
            if part:
                with suppress(BlockingIOError):
                    part = part.after(part.send(ours.fileno()))
            received += theirs.recv(1 << 20)
    return bytes(received)
