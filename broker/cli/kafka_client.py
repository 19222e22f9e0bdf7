"""A blocking client of Kafka's protocol, for the commands that ask nodes in it.

Requests and responses are kio's classes; a command builds them with `schema`. One connection to
each node that is asked, one request at a time on each.
"""

import socket
import struct
import time
from collections.abc import Callable
from io import BytesIO
from types import ModuleType, TracebackType
from typing import Any, Final, Self, TypeVar

from kio.index import load_payload_module, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

from broker.cli.native_client import NoAnswer

T = TypeVar("T")

RESPONSE_SIZE_MAX: Final = 1 << 30
"""Bytes. No response is near it: something else answers on that port."""

RETRY_S: Final = 0.1

_PASSING: Final = {
    ErrorCode.broker_not_available,
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.leader_not_available,
    ErrorCode.not_coordinator,
    ErrorCode.not_leader_or_follower,
    ErrorCode.rebalance_in_progress,
    ErrorCode.request_timed_out,
}
"""What is worth asking again for, a moment later and perhaps another node."""

_CLIENT_ID: Final = b"walrus"


class KafkaError(Exception):
    """A node answered with an error number."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or code.name.replace("_", " "))
        self.code = code


def check(code: ErrorCode, text: str | None = None) -> None:
    """Raises KafkaError unless `code` is none."""
    if code is not ErrorCode.none:
        raise KafkaError(code, text or "")


def schema(key: int, version: int) -> Any:
    """The request classes of an API at a version, as attributes."""
    module: ModuleType = load_payload_module(key, version, EntityType.request)
    return module


class KafkaClient:
    """`with KafkaClient("127.0.0.1", 9092) as client: client.ask(request)`.

    `timeout_s` bounds connecting, each wait for bytes, and how long `patiently` asks again. Raises
    NoAnswer where there is none.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 30.0) -> None:
        self.first = (host, port)
        self._timeout_s = timeout_s
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in self._sockets.values():
            stream.close()

    def patiently(self, what: Callable[[], T]) -> T:
        """What `what` returns in the end: errors that pass are waited for. Raises the others."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return what()
            except KafkaError as error:
                if error.code not in _PASSING or time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_S)

    def ask(self, request: Any, address: tuple[str, int] | None = None) -> Any:
        """The response of the node at `address`, or of the first one."""
        address = address or self.first
        try:
            return self._ask(request, address)
        except OSError as error:
            stream = self._sockets.pop(address, None)
            if stream is not None:
                stream.close()
            says = f"no answer from {address[0]}:{address[1]}: {error.strerror or error}"
            if address == self.first:
                raise NoAnswer(says) from error
            # It may be known to be gone in a moment, and another one do its work.
            raise KafkaError(ErrorCode.broker_not_available, says) from error

    def _ask(self, request: Any, address: tuple[str, int]) -> Any:
        self._correlation_id += 1
        stream = self._sockets.get(address)
        if stream is None:
            stream = socket.create_connection(address, timeout=self._timeout_s)
            self._sockets[address] = stream
        stream.sendall(_encoded(request, self._correlation_id))
        (size,) = struct.unpack(">i", _received(stream, 4))
        if not 4 <= size <= RESPONSE_SIZE_MAX:
            raise NoAnswer(f"{address[0]}:{address[1]} does not speak Kafka's protocol")
        return _decoded(request, _received(stream, size))


def _encoded(request: Any, correlation_id: int) -> bytes:
    body = BytesIO()
    body.write(struct.pack(">hhi", request.__api_key__, request.__version__, correlation_id))
    body.write(struct.pack(">h", len(_CLIENT_ID)) + _CLIENT_ID)
    body.write(b"\0" if request.__flexible__ else b"")
    entity_writer(type(request))(body, request)
    return struct.pack(">i", len(body.getvalue())) + body.getvalue()


def _decoded(request: Any, frame: bytes) -> Any:
    response_type = load_response_schema(request.__api_key__, request.__version__)
    header_size = 4 + (1 if response_type.__flexible__ else 0)
    response, _ = entity_reader(response_type)(memoryview(frame)[header_size:], 0)
    return response


def _received(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = stream.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise ConnectionError("it closed the connection")
        data += chunk
    return bytes(data)
