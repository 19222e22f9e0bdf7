"""What can go wrong in the broker, in domain words.

Kafka's error numbers appear only in `kafka_api/errors.py`, the native protocol's `ERR` texts only
in `native_api`; both are tables over the classes below.

    BrokerError
    ├── PeerError                    the peer's fault: the connection cannot go on
    │   ├── FrameError               bytes that are no frame, or a frame beyond the limits
    │   └── UnsupportedRequest       an API or version nobody serves
    └── RequestError                 one request, or a partition of it, fails; all else goes on
        ├── UnknownTopic             no such name            UnknownTopicId    no such id
        ├── UnknownPartition         a partition other than 0
        ├── TopicExists  InvalidTopic  InvalidConfig  InvalidPartitions  InvalidRequest
        ├── NotLeader                this node may not serve it now; nothing was appended
        │   ├── LeaderMoved          … and the append had waited here while that was decided
        │   └── OutOfTouch           … because it hears from no majority of the cluster
        ├── FencedLeaderEpoch  UnknownLeaderEpoch
        ├── OffsetOutOfRange
        ├── CorruptBatch  InvalidRecord  BatchTooLarge  InvalidTimestamp  UnsupportedCompression
        ├── OutOfOrderSequence  DuplicateSequence  FencedProducer
        ├── NotEnoughReplicas        refused before the append
        ├── OutcomeUnknown           appended, not known to be durable: may or may not survive
        ├── MetadataUnavailable      no answer from the metadata log; the outcome is open
        │   └── NotProposed          no leader took the command: it has no effect and never will
        ├── Loading                  the state that answers this is still being read back
        └── StorageFailed            our disk refused
"""


class BrokerError(Exception):
    """Root of everything this package raises on purpose."""


class PeerError(BrokerError):
    """The peer broke the protocol; the connection is closed after a log line that says why."""


class FrameError(PeerError):
    """A length prefix or frame that cannot be accepted."""


class UnsupportedRequest(PeerError):
    """An API key or version that is not served (Kafka closes the connection on these too)."""


class RequestError(BrokerError):
    """One request, or one partition of it, cannot be done. The text is for people."""


class UnknownTopic(RequestError):
    """No topic has this name."""


class UnknownTopicId(RequestError):
    """No topic has this id."""


class UnknownPartition(RequestError):
    """Topics have partition 0 and no other."""


class TopicExists(RequestError):
    """The name is taken."""


class InvalidTopic(RequestError):
    """A name no one may register."""


class InvalidConfig(RequestError):
    """A topic config whose value cannot be meant."""


class InvalidPartitions(RequestError):
    """A partition count other than one, where that is refused."""


class InvalidRequest(RequestError):
    """The request contradicts itself or asks for what is not offered."""


class NotLeader(RequestError):
    """This node may not serve the topic now. Nothing was appended."""

    def __init__(self, text: str, *, leader_id: int = -1, leader_epoch: int = -1) -> None:
        super().__init__(text)
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch


class LeaderMoved(NotLeader):
    """Leadership went elsewhere while this append waited for a rollover. Nothing was appended."""


class OutOfTouch(NotLeader):
    """This node hears from no majority of the cluster, or does not reach the topic's leader.
    Nothing was appended."""


class FencedLeaderEpoch(RequestError):
    """The client's leader epoch is older than the current run of epochs."""


class UnknownLeaderEpoch(RequestError):
    """The client's leader epoch is newer than ours."""


class OffsetOutOfRange(RequestError):
    """The offset lies below the log start or beyond the log end."""


class BatchRefused(RequestError):
    """Something is wrong with the batch itself: whoever looks at it finds the same."""


class CorruptBatch(BatchRefused):
    """Lengths, magic or CRC of a record batch do not hold."""


class InvalidRecord(BatchRefused):
    """A well-formed batch that may not be appended (control bit, null key on a compacted topic,
    …)."""


class BatchTooLarge(BatchRefused):
    """A batch above the topic's `max.message.bytes`."""


class InvalidTimestamp(BatchRefused):
    """A timestamp too far from now (`message.timestamp.before.max.ms`, `…after.max.ms`)."""


class UnsupportedCompression(BatchRefused):
    """A codec the request's version cannot carry."""


class OutOfOrderSequence(BatchRefused):
    """The producer's sequence leaves a gap."""


class DuplicateSequence(BatchRefused):
    """A repeat of a batch older than the window of five that is remembered."""


class FencedProducer(BatchRefused):
    """The producer epoch is older than the one last seen."""


class NotEnoughReplicas(RequestError):
    """Too few live replicas to honour acks=all; nothing was appended."""


class OutcomeUnknown(RequestError):
    """The batch was appended but is not known to be durable; a retry is right, with idempotence
    harmless."""


class MetadataUnavailable(RequestError):
    """The metadata log gave no answer in time (no leader, no quorum, shutting down)."""


class NotProposed(MetadataUnavailable):
    """The metadata log did not take the command: it has no effect and never will."""


class Loading(RequestError):
    """The answer is still being read back from the log; ask again."""


class StorageFailed(RequestError):
    """The local disk refused a read or a write."""


class EndsItself(BrokerError):
    """The node stops by its own decision, and has logged why."""
