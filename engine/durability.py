"""When an append counts as durable, and group commit: one write and sync per dirty segment, one
submission for all.

While a segment's write is in flight, further appends queue behind it; when it is done they all go
together. So the number of syncs follows the disk's speed and not the number of appends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.backends import Backend
from engine.errors import QueueFullError

if TYPE_CHECKING:
    from engine.appender import Appender

INTERVAL_MS_MAX = 60_000


@dataclass(frozen=True, slots=True)
class FsyncPolicy:
    """What durable means for an append. Promises, seals and new files are always synced.

    `each`: written and synced. A number: written; synced every so many milliseconds (1 to 60,000).
    `none`: written; the operating system syncs when it likes.
    """

    interval_ms: int | None
    """0: each; None: none."""

    @classmethod
    def parse(cls, text: str) -> "FsyncPolicy":
        """Raises ValueError that names the valid forms."""
        if text in ("each", "none"):
            return EACH if text == "each" else NONE
        if text.isascii() and text.isdigit() and 1 <= int(text) <= INTERVAL_MS_MAX:
            return cls(int(text))
        raise ValueError(
            f"{text!r} is no fsync policy: use each, none, or milliseconds (1 to {INTERVAL_MS_MAX})"
        )

    @property
    def is_each(self) -> bool:
        return self.interval_ms == 0

    def __str__(self) -> str:
        if self.interval_ms is None:
            return "none"
        return "each" if self.is_each else str(self.interval_ms)


EACH = FsyncPolicy(0)
NONE = FsyncPolicy(None)


class GroupCommit:
    """Knows which appenders have something to write or sync, and how many bytes wait in all of
    them."""

    def __init__(
        self,
        backend: Backend,
        policy: FsyncPolicy,
        wake: Callable[[], None],
        *,
        queue_size_max: int,
    ) -> None:
        self.policy = policy
        self._backend = backend
        self._wake = wake
        self._woken = False
        self._dirty: dict[Appender, None] = {}
        self._unsynced: dict[Appender, None] = {}
        self._queue_size = 0
        self._queue_size_max = queue_size_max

    @property
    def queue_size(self) -> int:
        """Bytes appended and not yet written."""
        return self._queue_size

    def reserve(self, size: int) -> None:
        """Raises QueueFullError. One append is always let in, however large, if nothing else
        waits."""
        if self._queue_size and self._queue_size + size > self._queue_size_max:
            raise QueueFullError(
                f"{self._queue_size} bytes wait for the disk: {size} more are too many"
            )
        self._queue_size += size

    def release(self, size: int) -> None:
        self._queue_size -= size

    def mark_dirty(self, appender: "Appender") -> None:
        """It wants `step` at the next flush."""
        self._dirty[appender] = None
        if not self._woken:
            self._woken = True
            self._wake()

    def mark_unsynced(self, appender: "Appender") -> None:
        """It wrote without a sync."""
        if self.policy.interval_ms:
            self._unsynced[appender] = None

    def flush(self) -> None:
        """Let every dirty appender start its next operation, then submit them as one."""
        self._woken = False
        dirty, self._dirty = self._dirty, {}
        for appender in dirty:
            appender.step()
        self._backend.submit()

    def sync_due(self) -> None:
        """The interval of the policy has passed. Nothing to do under `each` and `none`."""
        if self.policy.interval_ms:
            self.sync_soon()
            self.flush()

    def sync_soon(self) -> None:
        """At the next flush, all that was written and waits for its interval."""
        unsynced, self._unsynced = self._unsynced, {}
        for appender in unsynced:
            appender.want_sync()
