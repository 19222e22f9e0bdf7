"""TCP for both protocols: frames in, ordered replies out, and a limit on everything.

listener.py    sockets that listen; one task per connection; drain
connection.py  one connection: a read loop, an answer loop, a write loop
outbox.py      its replies on their way out
last_words.py  the end of one: its last reply is to arrive
framing.py     length-prefixed frames out of bytes (pure)
budget.py      the memory that all connections together may hold
stream.py      a non-blocking socket: a recv or two per wake-up, one sendmsg per burst
congestion.py  no pacing between two processes of one machine
limits.py      every bound and every counter
"""

from broker.net.budget import Budget
from broker.net.limits import Limits, ListenerStats, NetStats
from broker.net.listener import Listener, ListenError, NetServer

__all__ = [
    "Budget",
    "Limits",
    "ListenError",
    "Listener",
    "ListenerStats",
    "NetServer",
    "NetStats",
]
