"""The mistakes that the specification must not forgive.

Each switches one rule of `Replication.tla` off. The mutant is checked in a small configuration that
holds without it, against one property: the one that says best whom the mistake hurts.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    mutation: str
    """A name in the set `Mutations` of the module."""
    config: str
    """The configuration (a file in `configs`) in which it is checked."""
    violates: str
    """The property that must fail."""
    mistake: str


MUTANTS = (
    # -- acknowledging
    Mutant(
        "AckBeforeSync", "crash", "AcknowledgedIsDurable", "a follower acknowledges what it wrote"
    ),
    Mutant(
        "CountUnsynced",
        "crash",
        "AcknowledgedIsDurable",
        "the high watermark counts the writer's own end before its sync",
    ),
    Mutant(
        "AckOnOneCopy", "crash", "AcknowledgedIsDurable", "the high watermark waits for one copy"
    ),
    Mutant(
        "AcceptGap", "two-segments", "OneRecordPerOffset", "a copy takes a batch beyond its end"
    ),
    # -- one writer for life
    Mutant(
        "ResumeAfterRestart",
        "crash-two-records",
        "OneRecordPerOffset",
        "a restarted process goes on in its old segment",
    ),
    Mutant(
        "StaleNextWriter",
        "crash",
        "OpenedForRegistered",
        "a segment is opened for an incarnation that has ended",
    ),
    # -- promises
    Mutant("NoFence", "two-segments", "NoAckBeyondSeal", "a promised copy accepts batches"),
    Mutant("PromiseNotSynced", "crash", "NoAckBeyondSeal", "a power loss undoes a promise"),
    Mutant("PromiseLowered", "two-seals", "NoAckBeyondSeal", "a late SEAL lowers the promise"),
    Mutant(
        "ForgetDropped",
        "two-segments",
        "NoAckBeyondSeal",
        "a deleted copy of a replaced segment accepts batches again",
    ),
    Mutant(
        "VoidCopyFollows",
        "lost-disk",
        "NoAckBeyondSeal",
        "a new disk, which has forgotten the promise, accepts batches of the old segment",
    ),
    # -- seals
    Mutant("SealOnOneAnswer", "two-segments", "NoAckBeyondSeal", "one answer fixes the end"),
    Mutant("ShortestAnswer", "two-segments", "NoAckBeyondSeal", "the shortest answer wins"),
    Mutant("AnswerUnsynced", "crash", "SealedIsDurable", "SEAL is answered without a sync"),
    Mutant(
        "EmptyDiskAnswers", "lost-disk", "NoAckBeyondSeal", "a new disk answers 'I have nothing'"
    ),
    Mutant(
        "VoidSeenByRecovererOnly",
        "lost-disk",
        "NoAckBeyondSeal",
        "only the recoverer, by its older view, knows that a disk is new",
    ),
    Mutant(
        "CommitWithoutRepair",
        "two-segments",
        "SealedIsDurable",
        "the end is committed before an ack quorum holds it",
    ),
    Mutant(
        "RepairAfterPromise",
        "two-seals",
        "NoAckBeyondSeal",
        "a repair goes on after a later attempt was promised",
    ),
    Mutant(
        "HoldersByNewDisk",
        "lost-disk",
        "SealedIsDurable",
        "a holder counts although its disk was replaced since it answered",
    ),
    Mutant(
        "CommitSealWithoutCas", "two-seals", "SealedInTurn", "a superseded recoverer's end counts"
    ),
    Mutant("NobodySeals", "progress-crash", "RolloverProgress", "nobody seals after a dead writer"),
    # -- rolls
    Mutant(
        "RollWithoutDraining",
        "two-segments",
        "SealedIsDurable",
        "a roll does not wait for the high watermark",
    ),
    Mutant(
        "ResumeOnTimeout",
        "two-segments",
        "NoAckBeyondSeal",
        "a roll that timed out is taken for refused",
    ),
    Mutant(
        "RollWithoutCas",
        "rolls",
        "ExactSeal",
        "a repeated roll closes the next segment with the old end",
    ),
    # -- truncation
    Mutant(
        "TruncateToHighWatermark",
        "crash",
        "AcknowledgedIsDurable",
        "a restart cuts the log to a high watermark it was told",
    ),
    Mutant(
        "TruncateToChosen",
        "two-segments",
        "TruncatedOnlyToCommitted",
        "a copy is cut to an end that is not committed",
    ),
    # -- reads
    Mutant(
        "ServeUncommitted",
        "two-segments",
        "OneRecordPerOffset",
        "a leader serves beyond its high watermark",
    ),
    Mutant(
        "ServeBeyondEnd",
        "two-segments",
        "ReadCursorWithinBounds",
        "a copy that was not cut yet serves beyond the sealed end",
    ),
)
