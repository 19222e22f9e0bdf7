"""Nodes among themselves: one authenticated port, and channels that do not wait for each other.

frames.py     encrypted, numbered frames out of bytes (pure)
cipher.py     what encrypts them, loaded with the first connection
handshake.py  how two ends come to trust a connection (pure)
channel.py    a trusted connection
port.py       the listener and the dialler
links.py      Raft's connections, kept up
wires.py      their two ends, on the thread that Raft runs on
"""

from broker.peer.channel import Channel
from broker.peer.handshake import HandshakeError, Identity
from broker.peer.links import RaftLinks
from broker.peer.port import PeerPort, is_refused

__all__ = ["Channel", "HandshakeError", "Identity", "PeerPort", "RaftLinks", "is_refused"]
