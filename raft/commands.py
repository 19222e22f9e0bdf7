"""The commands of the metadata log (pure).

Every command is a compare-and-set: it names what its sender believed (an epoch, an incarnation, a
segment id) and changes nothing when that is no longer so. A command carries every decision in
itself; applying one reads no clock, no randomness and no disk, and cannot raise. Answers are
`Applied` values. See `state.py` for what each one does.

`client` and `sequence` make a retry after an unknown outcome harmless: the second arrival gets the
first answer.
"""

from typing import Annotated

import msgspec

Uuid = bytes
"""16 bytes."""


class Command(msgspec.Struct, frozen=True, tag=True, array_like=True, omit_defaults=False):
    """Root of the commands; msgspec's tag is the class name, fields are positional and only ever
    appended."""


class Next(msgspec.Struct, frozen=True, array_like=True):
    """Who writes the segment that opens next."""

    writer: int
    writer_incarnation: int
    replicas: tuple[int, ...]


class SealedEnd(msgspec.Struct, frozen=True, array_like=True):
    """Where a segment ended, in every unit that lets a copy be checked without parsing it."""

    end_offset: int
    size: int
    digest: int
    """CRC-32C over the 61-byte headers of its batches, in order."""
    max_timestamp: int
    """-1 for an empty segment."""
    appended_ms: int = -1
    """Wall time, milliseconds since 1970, of whoever closed it: no append was later. -1: unknown.
    Retention goes by it where the records carry older times."""


class FormCluster(Command, frozen=True, tag="form"):
    """Give the cluster its id. Ignored (ok) when it has that id, refused when it has another."""

    cluster_id: str


class RegisterBroker(Command, frozen=True, tag="register"):
    """A process starts (or restarts) as node `node`. Its incarnation becomes the raft index of this
    command.

    Every OPEN or SEALING segment that has `node` among its replicas gets `(node, old disk)` added
    to `void` if `disk` differs from the registered one, or if `clean` is False.
    """

    node: int
    disk: Uuid
    raft_host: str
    raft_port: int
    listeners: tuple[tuple[str, str, int], ...]
    """(listener name, advertised host, port); the native listener is named "native"."""
    rack: str | None
    clean: bool
    """False: the disk may have lost writes it was told were durable (fsync off and the machine
    rebooted)."""


class FenceBroker(Command, frozen=True, tag="fence"):
    node: int
    incarnation: int


class MarkLeaving(Command, frozen=True, tag="leaving"):
    """The broker is to be taken out for good, or (`leaving` False) stays after all."""

    node: int
    leaving: bool


class RemoveBroker(Command, frozen=True, tag="remove_broker"):
    """Take out one that is leaving and has nothing left that is needed. `disk` is its disk."""

    node: int
    disk: Uuid


class CreateTopic(Command, frozen=True, tag="create"):
    topic_id: Uuid
    name: str
    configs: dict[str, str]
    replication_factor: int
    internal: bool
    pinned: bool
    next: Next
    unlike_others: bool = False
    """Refused where a topic has a name that metrics could not tell from this one. False in logs
    from before this rule."""


class DeleteTopic(Command, frozen=True, tag="delete"):
    topic_id: Uuid


class ChangeConfig(Command, frozen=True, tag="config"):
    """Set (str) or remove (None) keys. `expect_revision` is the topic's `config_revision`."""

    topic_id: Uuid
    expect_revision: int
    changes: dict[str, str | None]


class ChangeGroupConfig(Command, frozen=True, tag="group_config"):
    """Put `configs` in the place of what is set for a consumer group; {} forgets it. `expect` is
    what the sender believes is set."""

    group: str
    expect: dict[str, str]
    configs: dict[str, str]


class BeginSeal(Command, frozen=True, tag="begin_seal"):
    topic_id: Uuid
    sid: int
    expect_epoch: int
    recoverer: int


class BeginSealMany(Command, frozen=True, tag="begin_seal_many"):
    """Begin sealing the last segment of every topic where it is not sealed and was written by an
    older incarnation of `node` than `incarnation`, or was being sealed by `node`. The restart of a
    node is this one command. Answer: one Seal per topic."""

    node: int
    incarnation: int


class AcceptLoss(Command, frozen=True, tag="accept_loss"):
    """An operator's word: too many copies of a segment that is being sealed are gone, and it shall
    end with what is left. Begins another attempt, as BeginSeal does; noted in the segment for
    ever."""

    topic_id: Uuid
    sid: int
    expect_epoch: int
    recoverer: int


class SealItem(msgspec.Struct, frozen=True, array_like=True):
    topic_id: Uuid
    sid: int
    seal_epoch: int
    end: SealedEnd
    holders: tuple[tuple[int, Uuid], ...]
    next: Next


class CommitSealMany(Command, frozen=True, tag="commit_seal"):
    """Close segments and open their successors. Each item is its own compare-and-set (answer: one
    bool each).

    `end_offset == base_offset` replaces the empty segment by its successor instead of keeping it.
    """

    items: tuple[SealItem, ...]


class CommitRoll(Command, frozen=True, tag="roll"):
    """A planned rollover by the writer itself: OPEN straight to SEALED plus the next OPEN."""

    topic_id: Uuid
    sid: int
    open_epoch: int
    end: SealedEnd
    holders: tuple[tuple[int, Uuid], ...]
    next: Next


class AddHolder(Command, frozen=True, tag="add_holder"):
    topic_id: Uuid
    sid: int
    node: int
    disk: Uuid


class RemoveHolder(Command, frozen=True, tag="remove_holder"):
    topic_id: Uuid
    sid: int
    node: int
    disk: Uuid


class DeletePrefix(Command, frozen=True, tag="delete_prefix"):
    """Move the log start up to `log_start_offset`; SEALED segments wholly below it leave the chain
    (a tombstone of their ids stays, so that holders delete their files for a reason they can name).
    If all would leave, the newest stays, emptied: see `Topic.is_emptied`."""

    topic_id: Uuid
    log_start_offset: int


class AllocateProducerIds(Command, frozen=True, tag="producer_ids"):
    """Reserve `count` (1..10,000) ids. Answer: the first."""

    count: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Barrier(Command, frozen=True, tag="barrier"):
    """Changes nothing; when its answer is here, this node's view holds everything committed before
    it."""


class Abandon(Command, frozen=True, tag="abandon"):
    """Take this sequence number, so that the command which had it can never take effect from here
    on.

    This is how an unknown outcome becomes a known one: sent with the client and sequence of the
    doubtful command, it gets that command's answer if it was applied, and is refused as "abandoned"
    if it was not and never will be.
    """


AnyCommand = (
    FormCluster
    | RegisterBroker
    | FenceBroker
    | MarkLeaving
    | RemoveBroker
    | CreateTopic
    | DeleteTopic
    | ChangeConfig
    | ChangeGroupConfig
    | BeginSeal
    | BeginSealMany
    | AcceptLoss
    | CommitSealMany
    | CommitRoll
    | AddHolder
    | RemoveHolder
    | DeletePrefix
    | AllocateProducerIds
    | Barrier
    | Abandon
)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What is stored in the log: a format version, who asks, and the command."""

    version: int
    client: bytes
    """16 random bytes per process."""
    sequence: int
    """1, 2, 3, … per client."""
    command: AnyCommand


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """The answer of a command.

    `refusal` is "" when it took effect, otherwise one of the words in `state.REFUSALS`, and nothing
    changed.
    """

    refusal: str
    revision: int
    """Raft index at which it was applied."""
    value: int = 0
    """RegisterBroker: incarnation. AllocateProducerIds: the first id. CreateTopic, BeginSeal: the
    topic's epoch. CommitRoll: the new sid. ChangeConfig: the new config revision. DeletePrefix: the
    new log start."""
    items: tuple[tuple[bytes, int, int], ...] = ()
    """BeginSealMany: (topic_id, sid, seal_epoch). CommitSealMany: (topic_id, new sid or -1, epoch),
    in the order of its items. CreateTopic, CommitRoll: (topic_id, new sid, epoch)."""


COMMAND_SIZE_MAX = 60 * 1024
"""Bytes of an encoded envelope; larger ones are refused before they are proposed. Split the batch.
"""

FORMAT_VERSION = 1

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    """Raises ValueError above COMMAND_SIZE_MAX."""
    data = _encoder.encode(envelope)
    if len(data) > COMMAND_SIZE_MAX:
        raise ValueError(
            f"command of {len(data)} bytes, above the limit of {COMMAND_SIZE_MAX}: split it"
        )
    return data


def decode(data: bytes) -> Envelope:
    """Raises msgspec.DecodeError (ValidationError included) for anything that is no envelope of a
    known version."""
    try:
        envelope = _decoder.decode(data)
    except UnicodeDecodeError as wrong:  # msgspec lets this one through as it is
        raise msgspec.DecodeError(str(wrong)) from wrong
    if envelope.version != FORMAT_VERSION:
        raise msgspec.ValidationError(
            f"command format {envelope.version}; this program reads {FORMAT_VERSION}"
        )
    return envelope
