"""How a command changes the state: the table of what each command does, and one step of the log
(pure).

`apply` is total and deterministic: same log, same state, same hash, on every node; it reads no
clock and no disk, and it never raises. Every command is a compare-and-set, so each function in the
table (`brokers.py`, `leaving.py`, `topics.py`, `groups.py`, `segments.py`, `holders.py`) has the
same shape: say no (`Refused`) while anything the sender believed is not so, and only then write to
the draft. A refused command leaves no trace but its answer.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raft import brokers, groups, holders, leaving, segments, topics
from raft.commands import (
    Abandon,
    AcceptLoss,
    AddHolder,
    AllocateProducerIds,
    Applied,
    Barrier,
    BeginSeal,
    BeginSealMany,
    ChangeConfig,
    ChangeGroupConfig,
    Command,
    CommitRoll,
    CommitSealMany,
    CreateTopic,
    DeletePrefix,
    DeleteTopic,
    Envelope,
    FenceBroker,
    FormCluster,
    MarkLeaving,
    RegisterBroker,
    RemoveBroker,
    RemoveHolder,
)
from raft.draft import NUMBER_MAX, Draft, Refused, require
from raft.pmap import PMap
from raft.state import ANSWERS_MAX, CLIENTS_MAX, Client, ClusterState, Refusal

_replace = msgspec.structs.replace
_encode = msgspec.msgpack.Encoder().encode


def _allocate_producer_ids(draft: Draft, command: AllocateProducerIds) -> Applied:
    first = draft.state.next_producer_id
    require(1 <= command.count <= 10_000, Refusal.BAD_COMMAND)
    require(first + command.count <= NUMBER_MAX, Refusal.IDS_EXHAUSTED)
    draft.set(next_producer_id=first + command.count)
    return draft.applied(first)


def _barrier(draft: Draft, _command: Barrier) -> Applied:
    return draft.applied()


def _abandon(_draft: Draft, _command: Abandon) -> Applied:
    raise Refused(Refusal.ABANDONED)


TRANSITIONS: Mapping[type[Command], Callable[[Draft, Any], Applied]] = {
    FormCluster: brokers.form_cluster,
    RegisterBroker: brokers.register_broker,
    FenceBroker: brokers.fence_broker,
    MarkLeaving: leaving.mark_leaving,
    RemoveBroker: leaving.remove_broker,
    CreateTopic: topics.create_topic,
    DeleteTopic: topics.delete_topic,
    ChangeConfig: topics.change_config,
    ChangeGroupConfig: groups.change_config,
    DeletePrefix: topics.delete_prefix,
    BeginSeal: segments.begin_seal,
    BeginSealMany: segments.begin_seal_many,
    AcceptLoss: segments.accept_loss,
    CommitSealMany: segments.commit_seal_many,
    CommitRoll: segments.commit_roll,
    AddHolder: holders.add_holder,
    RemoveHolder: holders.remove_holder,
    AllocateProducerIds: _allocate_producer_ids,
    Barrier: _barrier,
    Abandon: _abandon,
}


def apply(state: ClusterState, index: int, envelope: Envelope) -> tuple[ClusterState, Applied]:
    """One committed command. `index` is its raft index, above `state.revision`.

    Total: whatever a well-typed envelope says, the answer is a state and an `Applied`, the same on
    every node. A (client, sequence) seen before gets its first answer and changes nothing.
    """
    if len(envelope.client) != 16 or not 1 <= envelope.sequence <= NUMBER_MAX:
        return _replace(state, revision=index), _refused(index, Refusal.BAD_COMMAND)
    client = state.clients.get(envelope.client)
    if client is not None:
        first = next(
            (answer for sequence, answer in client.answers if sequence == envelope.sequence), None
        )
        if first is not None:
            return _replace(state, revision=index), first
        if envelope.sequence <= client.floor:
            return _replace(state, revision=index), _refused(index, Refusal.FORGOTTEN)
    draft = Draft(state, index)
    try:
        answer = TRANSITIONS[type(envelope.command)](draft, envelope.command)
    except Refused as refused:
        draft = Draft(state, index)
        answer = _refused(index, refused.refusal)
    trail = _trail(state.trail, index, envelope, answer, draft.written)
    clients = _remember(draft.state.clients, client, envelope, answer)
    return _replace(draft.state, revision=index, clients=clients, trail=trail), answer


def refuse_unreadable(state: ClusterState, index: int) -> tuple[ClusterState, Applied]:
    """A committed entry that is no envelope this program can read: skipped, by every node alike."""
    return _replace(state, revision=index), _refused(index, Refusal.UNREADABLE)


def _refused(index: int, refusal: Refusal) -> Applied:
    return Applied(refusal=refusal.value, revision=index)


def _trail(
    trail: int, index: int, envelope: Envelope, answer: Applied, written: list[object]
) -> int:
    digest = hashlib.blake2b(trail.to_bytes(8, "big"), digest_size=8)
    digest.update(_encode((index, envelope, answer)))
    for value in written:
        digest.update(_encode(value))
    return int.from_bytes(digest.digest(), "big")


def _remember(
    clients: PMap[bytes, Client], client: Client | None, envelope: Envelope, answer: Applied
) -> PMap[bytes, Client]:
    """Keep the answer for a repeat. Whatever falls out of the window raises the floor, so it can
    never run twice."""
    floor = 0 if client is None else client.floor
    answers = (*(() if client is None else client.answers), (envelope.sequence, answer))
    if len(answers) > ANSWERS_MAX:
        lowest = min(sequence for sequence, _ in answers)
        floor = max(floor, lowest)
        answers = tuple(entry for entry in answers if entry[0] > floor)
    if client is None and len(clients) >= CLIENTS_MAX:
        silent = min(clients, key=lambda key: (clients[key].last_revision, key))
        clients = clients.remove(silent)
    return clients.set(envelope.client, Client(answer.revision, floor, answers))
