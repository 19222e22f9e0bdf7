"""FindCoordinator, v0-v6.

Behaviour
  * A group's coordinator is the node that leads the group's shard. The shard is made when it is
    first asked for, so the answer does not change with the first commit.
  * While nobody leads the shard, or its leader does not answer this node, the answer waits for who
    comes next. librdkafka's admin calls depend on it (v2.16): they repeat the question only twice,
    within half a second, and one that was sent to a node which then drops out of the metadata is
    never sent anywhere else.
  * When nobody comes within three seconds, or this node stops: whoever leads by the metadata, who
    may well be reached from where the client is, else COORDINATOR_NOT_AVAILABLE, which every client
    retries.
  * The coordinator of a transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the
    one number that every client takes for final; other kinds with INVALID_REQUEST.
Versions
  v1 key types, error message · v3 flexible · v4 many keys (KIP-699) · v5 new error codes · v6 share
  groups (KIP-932)
Not here
  transactions, share groups
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from kio.schema.errors import ErrorCode

from broker.errors import InvalidRequest, MetadataUnavailable, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, text_of
from broker.kafka_api.groups import group_code
from broker.kafka_api.handler import Finish, Response
from broker.kafka_api.leaders import Patience
from broker.kafka_api.wire import maker
from broker.ports import BrokerAddress

if TYPE_CHECKING:
    from kio.schema.find_coordinator.v6.request import FindCoordinatorRequest

GROUP, TRANSACTION = 0, 1

MANY_VERSION_MIN: Final = 4

LEADER_WAIT_S: Final = 3.0
"""For all keys of a request together. A dead leader is replaced within one to three seconds."""

_NOWHERE: Final = BrokerAddress(node_id=-1, host="", port=-1)

_Found = tuple[str, BrokerAddress, ErrorCode, str | None]
"""Key, address, error, its text."""


async def begin(ctx: Context, request: FindCoordinatorRequest) -> Finish:
    """Nothing depends on its order: what comes after it need not wait until a leader is found."""
    return partial(_finish, ctx, request)


async def _finish(ctx: Context, request: FindCoordinatorRequest) -> Response:
    """Look each key up, and make the shards that are missing."""
    key_type = getattr(request, "key_type", GROUP)
    patience = Patience(ctx, LEADER_WAIT_S)
    found: list[_Found] = []
    for key in _keys(request):
        try:
            found.append((key, await _find(ctx, key_type, key, patience), ErrorCode.none, None))
        except RequestError as error:
            found.append((key, _NOWHERE, group_code(error), text_of(error)))
    return _response(request, found)


def failed(ctx: Context, request: FindCoordinatorRequest, code: ErrorCode) -> Response:
    """The same error for every key."""
    return _response(request, [(key, _NOWHERE, code, None) for key in _keys(request)])


def _keys(request: FindCoordinatorRequest) -> Sequence[str]:
    if request.__version__ >= MANY_VERSION_MIN:
        return request.coordinator_keys
    return (request.key,)  # type: ignore[attr-defined]


async def _find(ctx: Context, key_type: int, key: str, patience: Patience) -> BrokerAddress:
    if key_type == TRANSACTION:
        raise Refused(
            ErrorCode.transactional_id_authorization_failed, "transactions are not offered"
        )
    if key_type != GROUP:
        raise InvalidRequest(f"coordinators of kind {key_type} are not offered")
    while True:
        leader_id = await ctx.groups.leader_of(key)
        live = {broker.node_id: broker for broker in ctx.controller.brokers(ctx.listener)}
        is_late = patience.is_over
        if leader_id in live and (is_late or await ctx.controller.answers(leader_id)):
            return live[leader_id]
        if is_late:
            raise MetadataUnavailable("nobody coordinates the group now")
        await patience.pause()


def _response(request: FindCoordinatorRequest, found: Sequence[_Found]) -> Response:
    make = maker(request)
    if request.__version__ >= MANY_VERSION_MIN:
        coordinators = tuple(
            make.Coordinator(
                key=key,
                node_id=address.node_id,
                host=address.host,
                port=address.port,
                error_code=code,
                error_message=text,
            )
            for key, address, code, text in found
        )
        return make.FindCoordinatorResponse(coordinators=coordinators)  # type: ignore[no-any-return]
    _, address, code, text = found[0]
    return make.FindCoordinatorResponse(  # type: ignore[no-any-return]
        error_code=code,
        error_message=text,
        node_id=address.node_id,
        host=address.host,
        port=address.port,
    )
