"""Replies as clients of the original read them."""

from broker.native_api.framing import EMPTY, OK, bare, error, is_error, ok_with
from tests.broker.replies import received


def test_the_forms_of_a_reply() -> None:
    assert received(OK) == b"\x02\0\0\0OK"
    assert received(EMPTY) == b"\x05\0\0\0EMPTY"
    assert received(ok_with(b"hi")) == b"\x05\0\0\0OK hi"
    assert received(ok_with(b"")) == b"\x03\0\0\0OK "
    assert received(error("no")) == b"\x06\0\0\0ERR no"
    assert received(bare(b"{}")) == b"\x02\0\0\0{}"


def test_a_payload_that_reads_like_an_error_is_none() -> None:
    assert is_error(error("x"))
    assert not is_error(ok_with(b"ERR x"))
    assert not is_error(OK)
    assert not is_error(EMPTY)
