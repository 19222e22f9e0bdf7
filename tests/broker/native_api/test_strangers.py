"""A client at the wrong door is recognised by its first four bytes."""

import pytest

from broker.native_api.strangers import of_size


@pytest.mark.parametrize(
    ("first_bytes", "who"),
    [
        (b"\x00\x00\x00\x2a", "a Kafka request of 42 bytes"),
        (b"\x00\x00\x4e\x20", "a Kafka request of 20000 bytes"),
        (b"GET ", "HTTP"),
        (b"PUT ", "sends no frame length"),
        (b"\x16\x03\x01\x02", "TLS"),
        (b"SSH-", "SSH"),
        (b"\xff\xff\xff\xff", None),
        (b"\x00\x00\x00\x01", None),
    ],
)
def test_who_it_probably_is(first_bytes: bytes, who: str | None) -> None:
    hint = of_size(int.from_bytes(first_bytes, "little"))
    assert (who in hint) if who else hint == ""
