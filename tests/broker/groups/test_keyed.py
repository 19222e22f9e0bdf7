"""Keyed state: the snapshot of a state is that state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.groups.keyed import apply_changes, decode_snapshot, encode_snapshot


def test_the_last_change_of_a_key_wins_and_none_removes_it() -> None:
    live: dict[bytes, bytes] = {}
    apply_changes(live, [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"b", None), (b"c", None)])
    assert live == {b"a": b"3"}


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=20)))
def test_a_snapshot_holds_every_live_key(live: dict[bytes, bytes]) -> None:
    assert decode_snapshot(encode_snapshot(live)) == live


def test_no_snapshot_is_an_empty_state() -> None:
    assert decode_snapshot(b"") == {}


@pytest.mark.parametrize("garbage", [b"\xff", b"\x92\x02\x80", b"\x92\x01\xc0"])
def test_garbage_and_newer_versions_are_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        decode_snapshot(garbage)
