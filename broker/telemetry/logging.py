"""Log lines: structlog and the standard library's loggers, through one pipeline to stderr.

A line is rendered on the caller's thread and written by a thread of its own, because a terminal
that is paused or a pipe that nobody reads would otherwise stop the event loop, and with it every
client. The queue between them is limited; what does not fit is dropped and counted, and the count
is logged when the reader is back.
"""

import logging
import queue
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

QUEUE_COUNT_MAX = 10_000
"""Lines waiting for stderr: a few MB at most."""

CLOSE_WAIT_S_MAX = 2.0
"""How long the last lines may take at exit when nobody reads them."""

# These libraries say at INFO what our own lines say better.
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "pysyncobj", "concurrent")


class QueueHandler(logging.Handler):
    """Renders a record here and writes it on another thread. Never blocks, never raises."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_COUNT_MAX)
        self.dropped_count = 0
        self._reported_count = 0
        self._thread = threading.Thread(target=self._write_all, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  (a bad value must not stop its caller)
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped_count += 1

    def close(self) -> None:
        """Write what is queued, within CLOSE_WAIT_S_MAX. Blocking; may be called again."""
        try:
            self._lines.put(None, timeout=CLOSE_WAIT_S_MAX)
        except queue.Full:
            pass
        self._thread.join(CLOSE_WAIT_S_MAX)
        super().close()

    @property
    def is_writing(self) -> bool:
        """Whether lines still go to the stream; no longer after `close`."""
        return self._thread.is_alive()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped_count = self.dropped_count
            if dropped_count > self._reported_count:
                line += (
                    f"\n{dropped_count - self._reported_count} log lines dropped before this one"
                )
                self._reported_count = dropped_count
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody will ever read it: the pipe's reader is gone or the stream is closed.
                self._reported_count += 1


def configure_logging(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr by default), as `format` says.

    `level` and `format` are the settings `log_level` and `log_format`. May be called again; the
    last call holds.
    """
    stream = stream if stream is not None else sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = QueueHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(format, stream),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, QueueHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def close_logging() -> None:
    """Write what is still queued and stop. Blocking, a few seconds at most."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, QueueHandler):
            root.removeHandler(handler)
            handler.close()


def _renderers(format: str, stream: TextIO) -> list[Any]:
    terminal = stream.isatty()
    if format == "console" or (format == "auto" and terminal):
        return [
            structlog.dev.ConsoleRenderer(
                colors=terminal, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [structlog.processors.format_exc_info, _as_text, structlog.processors.JSONRenderer()]


def _as_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """JSON has no bytes; show them as people would write them."""
    for key, value in event.items():
        if isinstance(value, bytes | bytearray | memoryview):
            event[key] = ascii(bytes(value))
    return event
