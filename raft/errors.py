"""What can go wrong in the metadata layer.

RaftError
├── NoLeader             nobody took the command in time; it was never proposed and never will be
├── OutcomeUnknown       proposed, and no majority answered in time: it may or may not take effect
├── Stopped              this node stopped, or its disk failed, before the answer was known
├── CommandTooLarge      above the limit of one command; split it
└── Overloaded           too many commands wait already; this one was not proposed
StoredStateError         what is on disk cannot be trusted; the node refuses to start
├── CorruptJournalError
└── CorruptSnapshotError
"""

REMEDY = (
    "Restore it from a copy of this disk; in a cluster, empty the data directory and let the node"
    " join again as a new one"
)
"""What to do about a file that cannot be trusted; every StoredStateError says it."""


class RaftError(Exception):
    """Why a command has no answer."""


class NoLeader(RaftError):
    """Nobody took the command in time; it was never proposed and never will be."""


class OutcomeUnknown(RaftError):
    """Proposed, but no majority answered in time: it may or may not take effect."""


class Stopped(RaftError):
    """The node stopped, or failed, before the answer was known."""


class CommandTooLarge(RaftError):
    """One command beyond `commands.COMMAND_SIZE_MAX`; nothing was proposed."""


class Overloaded(RaftError):
    """More commands wait than the node will hold; this one was not proposed."""


class StoredStateError(Exception):
    """The files of the metadata cannot be trusted. The text names the file, the position and the
    remedy."""


class CorruptJournalError(StoredStateError):
    """The journal is damaged in a part that was durable."""


class CorruptSnapshotError(StoredStateError):
    """The snapshot is damaged, or does not fit the journal."""
