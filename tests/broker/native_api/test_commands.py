"""What a frame says, and what is said to one that says nothing."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.native_api.commands import (
    Command,
    CommandError,
    Get,
    Metrics,
    Put,
    Register,
    State,
    parse,
)


@pytest.mark.parametrize(
    ("frame", "command"),
    [
        (b"REGISTER logs", Register("logs")),
        (b"REGISTER logs and more words\n", Register("logs")),
        (b"REGISTER  logs", Register("")),
        (b"GET logs\r\n", Get("logs")),
        (b"STATE logs", State("logs")),
        (b"METRICS", Metrics()),
        (b"METRICS please \t\n", Metrics()),
        (b"PUT logs hello", Put("logs", b"hello")),
        (b"PUT logs hello world", Put("logs", b"hello world")),
        (b"PUT logs  hello \n", Put("logs", b" hello \n")),
        (b"PUT logs \x00\xff\xfe", Put("logs", b"\x00\xff\xfe")),
        (b"PUT logs ", Put("logs", b"")),
        (b'PUT logs "quoted"', Put("logs", b'"quoted"')),
        (b"PUT  logs x", Put("", b"logs x")),
        ("PUT walroß x".encode(), Put("walroß", b"x")),
    ],
)
def test_commands_are_read_as_they_always_were(frame: bytes, command: Command) -> None:
    assert parse(frame) == command


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"REGISTER", "REGISTER requires a topic"),
        (b"REGISTER ", "REGISTER requires a topic"),
        (b"GET \n", "GET requires a topic"),
        (b"STATE", "STATE requires a topic"),
        (b"PUT", "PUT requires a topic"),
        (b"PUT ", "PUT requires a topic"),
        (b"PUT logs", "PUT requires a payload"),
        (b"PUT logs\n", "PUT requires a payload"),
        (b"PUT \xff x", "invalid utf-8"),
        (b"GET \xff", "invalid utf-8"),
        (b"\xff\xfe", "invalid utf-8"),
        (b"put logs x", "unknown command"),
        (b"get logs", "unknown command"),
        (b"DELETE logs", "unknown command"),
        (b" ", "unknown command"),
        (b"METRICSX", "unknown command"),
    ],
)
def test_what_is_no_command_is_told_in_the_original_words(frame: bytes, text: str) -> None:
    with pytest.raises(CommandError, match=f"^{text}$"):
        parse(frame)


@given(st.binary(max_size=200))
@example(b"PUT \xff\xff ")
def test_any_bytes_are_a_command_or_a_command_error(frame: bytes) -> None:
    try:
        parse(frame)
    except CommandError as error:
        assert str(error)


@given(st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True), st.binary(max_size=300))
def test_a_payload_is_kept_byte_for_byte(topic: str, payload: bytes) -> None:
    assert parse(b"PUT %b %b" % (topic.encode(), payload)) == Put(topic, payload)
