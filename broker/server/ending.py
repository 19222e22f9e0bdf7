"""What ends a node: a signal, a disk that failed, the cluster that has removed it."""

import asyncio
import signal

import anyio
import structlog

from broker.errors import EndsItself
from broker.ports import Clock

_log = structlog.get_logger(__name__)

SECOND_SIGNAL_S_MIN = 1.0
"""A second signal ends the node at once, but not one that came with the first: `timeout` and some
supervisors signal a process and its group."""


class TakenOut(EndsItself):
    """The cluster has removed this node for good."""


class DiskFailed(EndsItself):
    """The disk lost a write it had taken; only a restart, which reads everything back, may go
    on."""


class Ending:
    """Of one node. Make it on the event loop."""

    def __init__(self, node_id: int, clock: Clock) -> None:
        self.failure: EndsItself | None = None
        """Why it ends, unless somebody has asked it to."""
        self._node_id = node_id
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._begun = anyio.Event()

    async def begun(self) -> None:
        """Wait until the node is to end."""
        await self._begun.wait()

    async def cancel(self, scope: anyio.CancelScope) -> None:
        """Cancel what is under way when the node is to end."""
        await self._begun.wait()
        scope.cancel()

    async def await_signals(self) -> None:
        """Raises KeyboardInterrupt for a second one: to end at once."""
        asked_at = 0.0
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                now = self._clock.monotonic()
                if not self._begun.is_set():
                    _log.info("asked to stop", signal=signal.Signals(number).name)
                    asked_at = now
                    self._begun.set()
                elif now - asked_at > SECOND_SIGNAL_S_MIN:
                    _log.warning("stopping at once", signal=signal.Signals(number).name)
                    raise KeyboardInterrupt

    def metadata_failed(self, failure: BaseException) -> None:
        """On Raft's thread: its disk failed, or a bug showed. Nothing can change any more."""
        self._loop.call_soon_threadsafe(self.disk_failed, OSError(f"metadata: {failure}"))

    def disk_failed(self, error: OSError) -> None:
        """Never retry a sync: what the kernel could not write it has forgotten."""
        if self.failure is None:
            self.failure = DiskFailed(f"the disk failed, nothing more is acknowledged: {error}")
            _log.critical("the disk failed; stopping", error=str(error))
            self._begun.set()

    def taken_out(self) -> None:
        """The metadata says so."""
        if self.failure is None:
            self.failure = TakenOut(
                f"node {self._node_id} was taken out of the cluster; to come back as a new one,"
                " start it with an empty --data-dir and --join"
            )
            _log.critical("this node was taken out of the cluster; stopping")
            self._begun.set()
