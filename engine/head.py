"""The head object of one segment copy, on its way into its file.

It says what came before the segment. Its owner makes it just before the first batch is admitted, a
job writes it with the files of the copy, and once it is in its file it is let go: it may be large.
"""

from collections.abc import Callable

from engine.segment_files import SegmentFiles


class Head:
    """`capture` and `stored` are called on the segment's thread, `make_files` in its jobs, `read`
    anywhere."""

    __slots__ = ("_captured", "_files", "_written", "make")

    def __init__(self, files: SegmentFiles, make: Callable[[], bytes] | None) -> None:
        self.make = make
        """None when there is nothing to make any more."""
        self._files = files
        self._captured: bytes | None = None
        self._written: bytes | None = None

    def capture(self) -> None:
        """A promise may come before the head is known; the first batch does not."""
        if self._captured is None and self.make is not None:
            self._captured = self.make() or None

    def make_files(self, *, promised_epoch: int = 0) -> None:
        """The directory of the copy, if there is none, and the head, if it is known by now.
        Blocking."""
        head = self._captured
        if not self._files.exists():
            self._files.create(head, promised_epoch=promised_epoch)
        elif head is not None:
            self._files.add_head(head)
        self._written = head

    def stored(self) -> None:
        """The job that made the files is done."""
        if self._captured is not None and self._captured is self._written:
            self._captured = self._written = self.make = None

    def read(self) -> bytes | None:
        """None if the segment has none. Blocking. Raises OSError, CorruptSegmentError."""
        head = self._captured  # once: it is let go, by another thread, when its file is there
        return self._files.head() if head is None else head
