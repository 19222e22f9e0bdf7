"""Replies as clients of the original read them."""

from broker.native_api.framing import EMPTY, OK, bare, error, is_error, ok_with


def test_the_forms_of_a_reply() -> None:
    assert b"".join(OK) == b"\x02\0\0\0OK"
    assert b"".join(EMPTY) == b"\x05\0\0\0EMPTY"
    assert b"".join(ok_with(b"hi")) == b"\x05\0\0\0OK hi"
    assert b"".join(ok_with(b"")) == b"\x03\0\0\0OK "
    assert b"".join(error("no")) == b"\x06\0\0\0ERR no"
    assert b"".join(bare(b"{}")) == b"\x02\0\0\0{}"


def test_a_payload_that_reads_like_an_error_is_none() -> None:
    assert is_error(error("x"))
    assert not is_error(ok_with(b"ERR x"))
    assert not is_error(OK)
    assert not is_error(EMPTY)
