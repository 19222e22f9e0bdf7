"""How two nodes come to trust one connection (pure).

    dialer    hello      its nonce, whether it has a secret
    acceptor  challenge  its nonce, and proof that it knows the secret
    dialer    proof      who it is, which channel it wants, and proof
    acceptor  welcome    who it is, and proof

Each message is `u16 size` and msgpack, at most `MESSAGE_SIZE_MAX` bytes, so a stranger costs one
small read and one small write. A proof is an HMAC-SHA256 over the role, both nonces and what is
said; nonces are fresh, so nothing that was overheard can be used again. Without a secret the same
messages are exchanged and prove nothing: then only loopback peers are accepted (`port.py`).

Nothing here reads a clock or makes a random number: nonces come in.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from broker.errors import PeerError

VERSION = 2
NONCE_SIZE = 32
MESSAGE_SIZE_MAX = 1024
"""Bytes of one handshake message, prefix excluded."""
SECRET_SIZE_MIN = 16
"""Bytes. A shorter secret can be guessed from one overheard proof."""

_MAGIC = "walrus"
_PREFIX = struct.Struct("<H")
PREFIX_SIZE = _PREFIX.size


class HandshakeError(PeerError):
    """The other end is not one of us, or speaks another version. The text says which."""


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who a node is, and where it wants to be dialled."""

    voter_id: str
    node_id: int
    cluster_id: str
    """"" while it belongs to none."""
    host: str
    port: int


class _Hello(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int
    has_secret: bool
    nonce: bytes


class _Challenge(msgspec.Struct, frozen=True, array_like=True):
    has_secret: bool
    nonce: bytes
    proof: bytes


class _Proof(msgspec.Struct, frozen=True, array_like=True):
    identity: Identity
    channel: str
    proof: bytes


class _Welcome(msgspec.Struct, frozen=True, array_like=True):
    identity: Identity
    proof: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """A connection that both ends trust."""

    peer: Identity
    channel: str
    send_key: bytes
    receive_key: bytes


Message = TypeVar("Message", _Hello, _Challenge, _Proof, _Welcome)


class Dialing:
    """The dialler's half: `hello`, then `challenged`, then `welcomed`."""

    def __init__(self, secret: bytes, me: Identity, channel: str, nonce: bytes) -> None:
        """`secret` is b"" for none; `nonce` is `NONCE_SIZE` random bytes."""
        self._secret = secret
        self._me = me
        self._channel = channel
        self._nonce = nonce
        self._both = b""

    def hello(self) -> bytes:
        """The first message."""
        return _pack(_Hello(_MAGIC, VERSION, bool(self._secret), self._nonce))

    def challenged(self, data: bytes) -> bytes:
        """The answer to the acceptor's challenge. Raises HandshakeError."""
        challenge = _unpack(data, _Challenge)
        _check_secrets(self._secret, challenge.has_secret)
        self._both = _both(self._nonce, challenge.nonce)
        _check_proof(self._secret, "acceptor", self._both, b"", challenge.proof)
        said = _encode((self._me, self._channel))
        proof = _proof(self._secret, "dialer", self._both, said)
        return _pack(_Proof(self._me, self._channel, proof))

    def welcomed(self, data: bytes) -> Session:
        """The acceptor knows us, and we it. Raises HandshakeError."""
        welcome = _unpack(data, _Welcome)
        said = _encode(welcome.identity)
        _check_proof(self._secret, "welcome", self._both, said, welcome.proof)
        _check_identity(self._me, welcome.identity)
        send_key, receive_key = _keys(self._secret, self._both)
        return Session(welcome.identity, self._channel, send_key, receive_key)


class Accepting:
    """The acceptor's half: `hello`, then `proven`."""

    def __init__(self, secret: bytes, me: Identity, nonce: bytes) -> None:
        self._secret = secret
        self._me = me
        self._nonce = nonce
        self._both = b""

    def hello(self, data: bytes) -> bytes:
        """The challenge to a hello. Raises HandshakeError."""
        hello = _unpack(data, _Hello)
        if hello.magic != _MAGIC or hello.version != VERSION:
            raise HandshakeError(f"a peer speaks {hello.magic[:16]!r} version {hello.version}")
        _check_secrets(self._secret, hello.has_secret)
        self._both = _both(hello.nonce, self._nonce)
        proof = _proof(self._secret, "acceptor", self._both, b"")
        return _pack(_Challenge(bool(self._secret), self._nonce, proof))

    def proven(self, data: bytes) -> tuple[bytes, Session]:
        """The welcome, and the session. Raises HandshakeError."""
        shown = _unpack(data, _Proof)
        said = _encode((shown.identity, shown.channel))
        _check_proof(self._secret, "dialer", self._both, said, shown.proof)
        _check_identity(self._me, shown.identity)
        proof = _proof(self._secret, "welcome", self._both, _encode(self._me))
        receive_key, send_key = _keys(self._secret, self._both)
        session = Session(shown.identity, shown.channel, send_key, receive_key)
        return _pack(_Welcome(self._me, proof)), session


def size_of(prefix: bytes) -> int:
    """Bytes of the message behind this prefix. Raises HandshakeError when no message is that
    long."""
    (size,) = _PREFIX.unpack(prefix)
    if not 0 < size <= MESSAGE_SIZE_MAX:
        raise HandshakeError("what connects is not a node of a Walrus cluster")
    return int(size)


_encode = msgspec.msgpack.Encoder().encode


def _pack(message: msgspec.Struct) -> bytes:
    data = _encode(message)
    assert len(data) <= MESSAGE_SIZE_MAX, "our own identity is too long"
    return _PREFIX.pack(len(data)) + data


def _unpack(data: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise HandshakeError(
            f"what connects is not a node of a Walrus cluster ({wrong})"
        ) from wrong


def _both(dialer: bytes, acceptor: bytes) -> bytes:
    if len(dialer) != NONCE_SIZE or len(acceptor) != NONCE_SIZE or dialer == acceptor:
        raise HandshakeError("a peer's nonce is none")
    return dialer + acceptor


def _check_secrets(ours: bytes, peer_has_one: bool) -> None:
    if bool(ours) != peer_has_one:
        whose = "only this node has" if ours else "the peer has, and this node has not,"
        raise HandshakeError(f"{whose} a cluster secret: give every node the same secret file")


def _proof(secret: bytes, role: str, both: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, role.encode() + both + said, "sha256")


def _check_proof(secret: bytes, role: str, both: bytes, said: bytes, proof: bytes) -> None:
    if not hmac.compare_digest(proof, _proof(secret, role, both, said)):
        raise HandshakeError("a peer does not know the cluster's secret")


def _check_identity(me: Identity, peer: Identity) -> None:
    if peer.voter_id == me.voter_id:
        raise HandshakeError("the peer is this very node, or a copy of its data directory")
    if me.cluster_id and peer.cluster_id and me.cluster_id != peer.cluster_id:
        raise HandshakeError(
            f"the peer belongs to another cluster, {peer.cluster_id[:64]!r}, and this node to"
            f" {me.cluster_id!r}; a disk from before a `walrus recover-metadata` comes in only when"
            " it has been emptied"
        )


def _keys(secret: bytes, both: bytes) -> tuple[bytes, bytes]:
    """(of the dialer's frames, of the acceptor's)."""
    return (
        hashlib.blake2b(_proof(secret, "keys dialer", both, b"")).digest()[:32],
        hashlib.blake2b(_proof(secret, "keys acceptor", both, b"")).digest()[:32],
    )
