"""One Kafka connection: frames in, framed replies out. Implements `ports.Session`."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import structlog
from kio.schema.errors import ErrorCode

from broker import ports
from broker.errors import PeerError, RequestError, UnsupportedRequest
from broker.kafka_api import strangers
from broker.kafka_api.apis import ADVERTISED, API_VERSIONS_KEY, BY_KEY, FETCH, PRODUCE, Api
from broker.kafka_api.behind import Behind
from broker.kafka_api.context import Client, Context
from broker.kafka_api.fetch_sessions import Plan
from broker.kafka_api.framing import encode
from broker.kafka_api.handler import Finish
from broker.kafka_api.handlers import k00_produce, k01_fetch, k18_api_versions
from broker.kafka_api.header import (
    PREFIX,
    PREFIX_SIZE,
    Prefix,
    client_field,
    read_client_id,
    read_prefix,
)
from broker.kafka_api.outcome import NONE, outcome_of
from broker.kafka_api.produce_wire import is_again
from broker.kafka_api.quick_fetch import QuickFetch
from broker.kafka_api.quick_produce import QuickProduce
from broker.kafka_api.wire import LOADED, Request, Response, codec, load
from broker.ports import Reply

if TYPE_CHECKING:
    from kio.schema.fetch.v17.request import FetchRequest
    from kio.schema.produce.v12.request import ProduceRequest

log = structlog.get_logger(__name__)

NOTHING: Final[Reply] = ()


class KafkaSession:
    """The protocol of one connection.

    Requests begin in the order in which they came, and each begins before the next one is looked
    at; how their replies keep that order is the connection's business.
    """

    __slots__ = (
        "_client_field",
        "_ctx",
        "_is_first",
        "_quick_fetch",
        "_quick_produce",
    )

    def __init__(self, ctx: Context) -> None:
        self._ctx = replace(ctx, advertised=ADVERTISED, client=Client(), behind=Behind())
        self._is_first = True
        self._client_field = b""
        """The client id as the last request brought it, length included."""
        self._quick_produce = QuickProduce(
            self._ctx, ctx.counters.requests.of(PRODUCE.name), self._fail_produce
        )
        self._quick_fetch = QuickFetch(
            self._ctx, ctx.counters.requests.of(FETCH.name), self._go_on_fetching
        )

    @property
    def client(self) -> Client:
        """What the peer has said about itself so far."""
        return self._ctx.client

    def begin_now(
        self, frame: memoryview, *, is_alone: bool, is_next: bool
    ) -> ports.Pending | None:
        """Stage 1 of the usual Produce or Fetch of a client that has said who it is; None for all
        else."""
        last = self._quick_produce.last
        if last is not None and is_again(frame, last):
            return self._quick_produce.begin_again(frame, last, is_alone=is_alone)
        size = len(self._client_field)
        if not size or len(frame) <= PREFIX_SIZE + size or frame[0] or frame[1] > FETCH.key:
            return None
        key, version, correlation_id = PREFIX.unpack_from(frame)
        position = PREFIX_SIZE + size
        if (key, version) not in LOADED or frame[PREFIX_SIZE:position] != self._client_field:
            return None  # The first of each version loads what its failures need.
        if version >= (FETCH if key else PRODUCE).first_flexible:
            if frame[position]:
                return None  # tagged fields
            position += 1
        if key == PRODUCE.key:
            return self._quick_produce.begin(
                frame, position, version, correlation_id, is_alone=is_alone
            )
        if not is_next:
            return None  # Nothing has reserved the memory in which its answer would wait.
        return self._quick_fetch.begin(frame, position, version, correlation_id)

    async def begin(self, frame: memoryview) -> ports.Finish:
        """Stage 1. Raises PeerError: the peer broke the protocol, or asked what nobody serves."""
        is_first, self._is_first = self._is_first, False
        try:
            return await self._begin(frame.toreadonly())  # kio takes no writable buffer
        except PeerError as error:
            self._ctx.counters.closed[type(error).__name__] += 1
            stranger = strangers.of_frame(frame) if is_first else ""
            raise type(error)(f"{self._ctx.who}: {error}{stranger}") from error

    def frame_refused(self, size: int) -> Reply:
        """Kafka has no words for it: the connection is just closed. The log says who it probably
        was."""
        self._ctx.counters.closed["FrameRefused"] += 1
        hint = strangers.of_size(size) if self._is_first else ""
        log.warning("kafka frame refused", peer=self._ctx.who, size=size, hint=hint or None)
        return NOTHING

    async def _begin(self, frame: memoryview) -> ports.Finish:
        prefix = read_prefix(frame)
        api = BY_KEY.get(prefix.key)
        if api is None:
            raise UnsupportedRequest(
                f"API key {prefix.key} (version {prefix.version}) is not served"
            )
        if not api.serves(prefix.version):
            return self._unserved(api, prefix)
        is_flexible = api.is_flexible(prefix.version)
        client_id, position = read_client_id(frame, is_flexible=is_flexible)
        if (field := client_field(frame)) != self._client_field:
            self._ctx.client.client_id, self._client_field = client_id, field
            self._quick_produce.forget()
        began_at = self._ctx.clock.monotonic()
        if (api.key, prefix.version) not in LOADED:
            await load(api.key, prefix.version)
        request = codec(api.key, prefix.version).read(frame, position)
        try:
            finish = await api.handler.begin(self._ctx, request)
        except PeerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this request alone
            failed = self._failed(api, request, error)
            return partial(self._answer, api, prefix, failed, began_at)
        return partial(self._finish, api, prefix, request, finish, began_at)

    def _unserved(self, api: Api, prefix: Prefix) -> ports.Finish:
        if api.key != API_VERSIONS_KEY:
            lowest, highest = api.served
            raise UnsupportedRequest(
                f"{api.name} v{prefix.version} is not served (v{lowest} to v{highest} are)"
            )
        # The body of an unknown version cannot be read, and v0 is what every client reads
        # (KIP-511).
        response = k18_api_versions.unknown_version(*api.served)
        began_at = self._ctx.clock.monotonic()
        return partial(self._answer, api, replace(prefix, version=0), response, began_at)

    async def _finish(
        self, api: Api, prefix: Prefix, request: Request, finish: Finish, began_at: float
    ) -> Reply:
        """Stage 2. Raises PeerError where only closing the connection tells the client."""
        try:
            response = await finish()
            return self._encode(api, prefix, response, began_at)
        except PeerError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            return self._encode(api, prefix, self._failed(api, request, error), began_at)

    async def _answer(self, api: Api, prefix: Prefix, response: Response, began_at: float) -> Reply:
        return self._encode(api, prefix, response, began_at)

    def _encode(
        self, api: Api, prefix: Prefix, response: Response | None, began_at: float
    ) -> Reply:
        stats = self._ctx.counters.requests.of(api.name)
        duration_s = self._ctx.clock.monotonic() - began_at
        if response is None:
            stats.record(NONE, duration_s)
            return NOTHING
        stats.record(outcome_of(response), duration_s)
        return encode(
            codec(api.key, prefix.version),
            prefix.correlation_id,
            response,
            has_flexible_header=api.has_flexible_reply(prefix.version),
        )

    def _fail_produce(self, frame: memoryview, error: Exception, began_at: float) -> Reply:
        """The answer to a Produce that was begun the quick way."""
        prefix, request = _read(PRODUCE, frame)
        if isinstance(error, RequestError):
            response = k00_produce.refused(self._ctx, cast("ProduceRequest", request), error)
        else:
            response = self._failed(PRODUCE, request, error)
        return self._encode(PRODUCE, prefix, response, began_at)

    def _go_on_fetching(
        self, frame: memoryview, plan: Plan, deadline: float, began_at: float
    ) -> ports.Finish:
        """Stage 2 of a Fetch that was begun the quick way."""
        prefix, request = _read(FETCH, frame)
        finish = partial(k01_fetch.finish, self._ctx, cast("FetchRequest", request), plan, deadline)
        return partial(self._finish, FETCH, prefix, request, finish, began_at)

    def _failed(self, api: Api, request: Request, error: Exception) -> Response:
        """A mistake of ours costs this one request, and nobody else notices."""
        self._ctx.counters.failures[api.name, type(error).__name__] += 1
        log.exception(
            "kafka request failed",
            api=api.name,
            version=request.__version__,
            peer=self._ctx.who,
            exc_info=error,
        )
        return api.handler.failed(self._ctx, request, ErrorCode.unknown_server_error)


def _read(api: Api, frame: memoryview) -> tuple[Prefix, Request]:
    """A request that has been understood before."""
    frame, prefix = frame.toreadonly(), read_prefix(frame)
    _, position = read_client_id(frame, is_flexible=api.is_flexible(prefix.version))
    return prefix, codec(api.key, prefix.version).read(frame, position)
