"""What the storage library raises and reports.

    EngineError
    ├── CorruptBatchError       bytes that are no valid RecordBatch (pure; also the peer's fault)
    ├── CorruptSegmentError     a file that contradicts itself or the metadata; names the remedy
    ├── FormatVersionError      a file written by a newer version of this program
    ├── SegmentClosedError      append to a segment that is promised, sealed, dropped or failed
    ├── QueueFullError          backpressure: too many bytes wait for the disk
    ├── PromiseRefused          a seal with an epoch lower than one already promised
    └── SnapshotError           a producer snapshot that cannot be read

Errors of the operating system stay `OSError`.
"""

from pathlib import Path


class EngineError(Exception):
    """Root of everything the engine raises on purpose."""


class CorruptBatchError(EngineError):
    """The bytes are no valid RecordBatch v2. `reason` is a phrase for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CorruptSegmentError(EngineError):
    """A stored file cannot be what was written. Nothing was changed on disk.

    `position` is the byte in `path` at which the trouble starts; `remedy` says what an operator can
    do.
    """

    def __init__(self, path: Path, position: int, why: str, remedy: str) -> None:
        super().__init__(f"{path}: corrupt at byte {position}: {why}. {remedy}")
        self.path = path
        self.position = position
        self.why = why
        self.remedy = remedy


class FormatVersionError(EngineError):
    """The file names a format version this program does not know."""

    def __init__(self, what: str, version: int, version_max: int) -> None:
        super().__init__(
            f"{what} has format version {version}; this program reads up to version {version_max}: "
            "run the newer program that wrote it"
        )
        self.version = version


class SegmentClosedError(EngineError):
    """Nothing was appended: the segment takes no more batches. The text says why."""


class QueueFullError(EngineError):
    """Nothing was appended: the bytes that wait for the disk are at their limit. Try again
    later."""


class PromiseRefused(EngineError):
    """A higher epoch has been promised already."""

    def __init__(self, promised_epoch: int) -> None:
        super().__init__(f"epoch {promised_epoch} is promised already")
        self.promised_epoch = promised_epoch


class SnapshotError(EngineError):
    """A producer snapshot is damaged or of an unknown version."""
