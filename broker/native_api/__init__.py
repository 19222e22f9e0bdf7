"""The native protocol: REGISTER, PUT, GET, STATE, METRICS over length-prefixed frames.

commands.py   what a frame says (pure)             framing.py   how a reply looks (pure)
session.py    one connection                       handlers.py  what each command does
packer.py     concurrent PUTs become one batch     cursor.py    GET's shared cursor
gathering.py  who comes back from one commit shares the next (pure)
rounds.py     what one round of GETs takes         shared.py    one cursor for the whole cluster
reader.py     one topic, record by record          unpack.py    one stored batch (pure)
majority.py   how long REGISTER and a first GET wait for it
errors.py     the words after ERR (pure)           strangers.py who came in by the wrong door (pure)
api.py        what the connections share

docs/native-protocol.md is the protocol as a client sees it.
"""

from broker.native_api.api import NativeApi
from broker.native_api.framing import BYTEORDER, FRAME_SIZE_MAX, FRAME_SIZE_MIN
from broker.native_api.session import NativeSession

__all__ = ["BYTEORDER", "FRAME_SIZE_MAX", "FRAME_SIZE_MIN", "NativeApi", "NativeSession"]
