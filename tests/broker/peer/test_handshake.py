"""Trust begins with the secret, holds for one connection, and is never given to garbage."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.peer.handshake import (
    MESSAGE_SIZE_MAX,
    PREFIX_SIZE,
    Accepting,
    Dialing,
    HandshakeError,
    Identity,
    Session,
    size_of,
)

SECRET = b"s" * 32
A = Identity("a", 1, "cluster", "127.0.0.1", 6001)
B = Identity("b", 2, "cluster", "127.0.0.1", 6002)


def body(message: bytes) -> bytes:
    assert size_of(message[:PREFIX_SIZE]) == len(message) - PREFIX_SIZE
    return message[PREFIX_SIZE:]


def shake(
    dialer: bytes = SECRET,
    acceptor: bytes = SECRET,
    a: Identity = A,
    b: Identity = B,
    tamper: Callable[[int, bytes], bytes] = lambda _number, message: message,
) -> tuple[Session, Session]:
    """The whole handshake: (the dialler's session, the acceptor's)."""
    dialing = Dialing(dialer, a, "raft", b"1" * 32)
    accepting = Accepting(acceptor, b, b"2" * 32)
    challenge = accepting.hello(tamper(0, body(dialing.hello())))
    proof = dialing.challenged(tamper(1, body(challenge)))
    welcome, theirs = accepting.proven(tamper(2, body(proof)))
    return dialing.welcomed(tamper(3, body(welcome))), theirs


@pytest.mark.parametrize("secret", [SECRET, b""], ids=["secret", "no secret"])
def test_both_ends_know_each_other_and_share_keys(secret: bytes) -> None:
    ours, theirs = shake(secret, secret)
    assert (ours.peer, theirs.peer) == (B, A)
    assert ours.channel == theirs.channel == "raft"
    assert ours.send_key == theirs.receive_key
    assert ours.receive_key == theirs.send_key
    assert ours.send_key != ours.receive_key


@pytest.mark.parametrize(
    ("dialer", "acceptor", "text"),
    [
        (SECRET, b"t" * 32, "does not know"),
        (SECRET, b"", "same secret file"),
        (b"", SECRET, "same secret file"),
    ],
)
def test_another_secret_or_none_is_refused(dialer: bytes, acceptor: bytes, text: str) -> None:
    with pytest.raises(HandshakeError, match=text):
        shake(dialer, acceptor)


@pytest.mark.parametrize("message", range(4))
def test_every_changed_byte_of_every_message_is_noticed(message: int) -> None:
    lengths: list[int] = []

    def measure(number: int, data: bytes) -> bytes:
        lengths.append(len(data))
        return data

    shake(tamper=measure)
    for position in range(lengths[message]):

        def flip(number: int, data: bytes, at: int = position) -> bytes:
            if number != message:
                return data
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

        with pytest.raises(HandshakeError):
            shake(tamper=flip)


def test_an_overheard_proof_is_worth_nothing_to_another_connection() -> None:
    dialing, accepting = Dialing(SECRET, A, "raft", b"1" * 32), Accepting(SECRET, B, b"2" * 32)
    hello = dialing.hello()
    proof = dialing.challenged(body(accepting.hello(body(hello))))
    accepting.proven(body(proof))
    later = Accepting(SECRET, B, b"3" * 32)
    later.hello(body(hello))
    with pytest.raises(HandshakeError, match="does not know"):
        later.proven(body(proof))


def test_an_acceptor_cannot_be_talked_into_proving_for_somebody_else() -> None:
    """A challenge reflected at a second connection is no challenge answer."""
    one = Accepting(SECRET, B, b"2" * 32)
    challenge = one.hello(body(Dialing(SECRET, A, "raft", b"1" * 32).hello()))
    with pytest.raises(HandshakeError):
        one.proven(body(challenge))


def test_another_cluster_or_ourselves_are_refused() -> None:
    other = msgspec.structs.replace(B, cluster_id="other")
    with pytest.raises(HandshakeError, match="another cluster"):
        shake(b=other)
    with pytest.raises(HandshakeError, match="this very node"):
        shake(b=msgspec.structs.replace(B, voter_id="a"))
    ours, _ = shake(b=msgspec.structs.replace(B, cluster_id=""))
    assert ours.peer.cluster_id == ""


def test_an_absurd_length_is_refused_before_it_is_read() -> None:
    for size in (0, MESSAGE_SIZE_MAX + 1, 2**16 - 1):
        with pytest.raises(HandshakeError):
            size_of(size.to_bytes(2, "little"))


@given(st.binary(max_size=200))
def test_garbage_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        Accepting(SECRET, B, b"2" * 32).hello(data)
    dialing = Dialing(SECRET, A, "raft", b"1" * 32)
    with pytest.raises(HandshakeError):
        dialing.challenged(data)
    with pytest.raises(HandshakeError):
        dialing.welcomed(data)
