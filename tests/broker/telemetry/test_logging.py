"""Log lines lost, unreadable, or able to stop the node."""

import errno
import io
import json
import logging
import os
import threading
from collections.abc import Iterator

import pytest
import structlog

from broker.telemetry.logging import (
    QUEUE_COUNT_MAX,
    QueueHandler,
    close_logging,
    configure_logging,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "nobody reads")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    close_logging()
    structlog.reset_defaults()
    logging.getLogger().setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    close_logging()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_away_from_a_terminal_each_line_is_one_json_object() -> None:
    stream = io.StringIO()
    configure_logging("info", "auto", stream)
    structlog.get_logger("broker.net").info("peer_refused", peer="127.0.0.1:5", raw=b"\xffGET")
    (line,) = lines(stream)
    assert line["event"] == "peer_refused"
    assert line["level"] == "info"
    assert line["logger"] == "broker.net"
    assert line["raw"] == "b'\\xffGET'"
    assert str(line["timestamp"]).endswith("Z")


def test_on_a_terminal_lines_are_for_people() -> None:
    stream = Terminal()
    configure_logging("info", "auto", stream)
    structlog.get_logger("broker.net").info("peer refused", peer="127.0.0.1:5")
    close_logging()
    assert "peer refused" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_format_beats_the_kind_of_stream() -> None:
    stream = Terminal()
    configure_logging("info", "json", stream)
    structlog.get_logger("a").info("x")
    assert lines(stream)[0]["event"] == "x"


def test_the_standard_library_goes_the_same_way() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("somebody.else").warning("lost %d of %d", 1, 2, extra={"topic": "t"})
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["topic"]) == ("lost 1 of 2", "warning", "t")


def test_a_traceback_stays_inside_its_line() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    try:
        raise RuntimeError("disk on fire")
    except RuntimeError:
        structlog.get_logger("a").exception("failed")
    (line,) = lines(stream)
    assert "RuntimeError: disk on fire" in str(line["exception"])


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging("warning", "json", stream)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_pipe_nobody_reads_does_not_stop_the_node() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        handler = QueueHandler(stream)
        record = logging.LogRecord("a", logging.INFO, __file__, 1, "x" * 200, None, None)
        for _ in range(QUEUE_COUNT_MAX + 2000):
            handler.emit(record)
        assert handler.dropped_count > 0
        drained = threading.Thread(target=_drain, args=(reader,))
        drained.start()
        handler.close()
    drained.join()


def test_a_reader_that_went_away_is_survived() -> None:
    handler = QueueHandler(Gone())
    for _ in range(3):
        handler.emit(logging.LogRecord("a", logging.INFO, __file__, 1, "x", None, None))
    handler.close()
    assert not handler.is_writing


def test_the_last_lines_are_written_at_close() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log = structlog.get_logger("a")
    for index in range(500):
        log.info("line", index=index)
    assert [line["index"] for line in lines(stream)] == list(range(500))


def _drain(reader: int) -> None:
    with os.fdopen(reader, "rb") as pipe:
        while pipe.read(65536):
            pass
